package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"
)

const administrators = "system:masters"

// An authority signs the certificates of one cluster: those of servers and those by which clients say who they are.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	encoded     []byte
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := validForAYear(pkix.Name{CommonName: "pintail-cluster"})
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate, key, encode("CERTIFICATE", der)}, err
}

func validForAYear(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // never fails: crypto/rand ends the program instead
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
	}
}

// A signed certificate and its key, both in PEM.
type pair struct{ certificate, key []byte }

// server makes a certificate for a server at these addresses and names.
func (a *authority) server(hosts ...string) (pair, error) {
	template := validForAYear(pkix.Name{CommonName: hosts[0]})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if address := net.ParseIP(host); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return a.sign(template)
}

// client makes a certificate for a client that is this user of this group.
func (a *authority) client(user, group string) (pair, error) {
	template := validForAYear(pkix.Name{CommonName: user, Organization: []string{group}})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(template)
}

func (a *authority) sign(template *x509.Certificate) (pair, error) {
	template.KeyUsage = x509.KeyUsageDigitalSignature
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return pair{}, err
	}
	encodedKey, err := x509.MarshalECPrivateKey(key)
	return pair{encode("CERTIFICATE", der), encode("EC PRIVATE KEY", encodedKey)}, err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// write puts the pair into PATH.crt and PATH.key.
func (p pair) write(path string) error {
	if err := os.WriteFile(path+".crt", p.certificate, 0o644); err != nil {
		return err
	}
	return os.WriteFile(path+".key", p.key, 0o600)
}

// kubeconfig is the configuration of a client: JSON, which is YAML. All that is needed is inside, no file beside it.
func kubeconfig(server string, signer *authority, client pair) ([]byte, error) {
	type object map[string]any
	return json.MarshalIndent(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "pintail",
		"clusters": []object{{"name": "pintail", "cluster": object{
			"server": server, "certificate-authority-data": signer.encoded,
		}}},
		"users": []object{{"name": "pintail", "user": object{
			"client-certificate-data": client.certificate, "client-key-data": client.key,
		}}},
		"contexts": []object{{"name": "pintail", "context": object{"cluster": "pintail", "user": "pintail"}}},
	}, "", "  ")
}

// apiClient is a client of the cluster's API as an administrator, from the files in the cluster's folder.
func (c *cluster) apiClient() (*http.Client, error) {
	authorityFile, err := os.ReadFile(c.path("certificates", "authority.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authorityFile)
	own, err := tls.LoadX509KeyPair(c.path("certificates", "administrator.crt"), c.path("certificates", "administrator.key"))
	if err != nil {
		return nil, err
	}
	configuration := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: configuration}}, nil
}
