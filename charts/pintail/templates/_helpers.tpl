{{- define "pintail.labels" -}}
app.kubernetes.io/name: pintail
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: pintail
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "pintail.operatorSelector" -}}
app.kubernetes.io/name: pintail
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "pintail.checkerSelector" -}}
app.kubernetes.io/name: pintail
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: checker
{{- end }}

{{- define "pintail.crdAnnotations" -}}
{{- $annotations := deepCopy .Values.crds.annotations }}
{{- if .Values.crds.keep }}
{{- $_ := set $annotations "helm.sh/resource-policy" "keep" }}
{{- end }}
{{- with $annotations }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* An image's full name: of a dict with `root` and `image`. */ -}}
{{- define "pintail.image" -}}
{{- $name := .image.repository }}
{{- with .root.Values.images.registry }}
{{- $name = printf "%s/%s" (trimSuffix "/" .) $name }}
{{- end }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{- /* Namespaces whose pods are task pods for sure, as a JSON list: they get the runner's service account. */ -}}
{{- define "pintail.runnerNamespaces" -}}
{{- concat .Values.scope.namespaces .Values.runner.namespaces | uniq | sortAlpha | toJson }}
{{- end }}

{{- /* Not empty where the release's own namespace is the whole scope. */ -}}
{{- define "pintail.singleNamespace" -}}
{{- if and (eq (len .Values.scope.namespaces) 1) (eq (first .Values.scope.namespaces) .Release.Namespace) }}yes{{ end }}
{{- end }}

{{- /* Not empty where objects are reviewed as they are applied. */ -}}
{{- define "pintail.admission" -}}
{{- if and .Values.admission.enabled (not (include "pintail.singleNamespace" .)) }}yes{{ end }}
{{- end }}

{{- /* Of webhook and right, which are the cluster's: another installation has its own. */ -}}
{{- define "pintail.admissionName" -}}
pintail-admission-{{ .Release.Namespace }}
{{- end }}

{{- /* What the operator reads, as JSON: operator/src/settings.rs. */ -}}
{{- define "pintail.settings" -}}
{{- $store := dict "uri" (required "store.uri is needed: the bucket of this installation, as in --set store.uri=s3://bucket/prefix" .Values.store.uri) "environment" .Values.store.environment }}
{{- with .Values.store.existingSecret }}
{{- $_ := set $store "secretName" . }}
{{- end }}
{{- $runner := dict
  "image" (include "pintail.image" (dict "root" . "image" .Values.runner.image))
  "imagePullPolicy" .Values.images.pullPolicy
  "imagePullSecrets" .Values.images.pullSecrets
  "serviceAccount" "pintail-runner"
  "allowedServiceAccounts" .Values.runner.allowedServiceAccounts
  "podTtlSeconds" (int .Values.runner.podTTLSeconds)
}}
{{- $settings := dict "namespace" .Release.Namespace "store" $store "runner" $runner }}
{{- with .Values.scope.namespaces }}
{{- $_ := set $settings "scope" (dict "namespaces" .) }}
{{- end }}
{{- if .Values.checker.enabled }}
{{- $url := printf "http://pintail-checker.%s.svc" .Release.Namespace }}
{{- $_ := set $settings "checker" (dict "url" $url "maskingFunctions" .Values.checker.maskingFunctions) }}
{{- end }}
{{- if include "pintail.admission" . }}
{{- $admission := dict "configuration" (include "pintail.admissionName" .) "service" "pintail-admission" }}
{{- if .Values.admission.certificate.issuerRef }}
{{- $_ := set $admission "certificateFolder" "/etc/pintail-admission" }}
{{- end }}
{{- $_ := set $settings "admission" $admission }}
{{- end }}
{{- toPrettyJson $settings }}
{{- end }}

{{- /* What the operator may do with the objects it looks after. */ -}}
{{- define "pintail.operatorRules" -}}
# What people wrote is read, and never written.
- apiGroups: [pintail.dev]
  resources: [workflows, connections, launchplans]
  verbs: [get, list, watch]
# Executions are read, created for what a LaunchPlan waits for, cancelled by a patch to make room for others, and deleted
# when their time is over.
- apiGroups: [pintail.dev]
  resources: [executions]
  verbs: [get, list, watch, create, patch, delete]
# Versions of datasets are recorded, held by a finalizer while their data is deleted, and deleted when their time is over.
- apiGroups: [pintail.dev]
  resources: [artifacts]
  verbs: [get, list, watch, create, patch, delete]
# What came of them is written into their status, and nowhere else.
- apiGroups: [pintail.dev]
  resources: [workflows/status, connections/status, executions/status, artifacts/status, launchplans/status]
  verbs: [patch]
# The revision that a run is pinned to is kept under the name of its content, until no run names it.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, create, delete]
# A task's query may stand in a ConfigMap, which is read when a run starts.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
# A pod for each attempt of a task; a patch lowers its deadline, to stop it and keep its log. An agent in each namespace
# whose LaunchPlans wait for objects or events.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
# The Service pintail-agent, where events arrive; it is found again after a restart to be deleted when nothing waits for any.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, create, delete]
# What happens is told as Events.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# Of a namespace that is on its way out nothing is waited for. The uid of kube-system, or of the operator's own namespace
# where its scope is some namespaces, stands for the installation in the store.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end }}
