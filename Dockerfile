# The images of operator and runner, for those who build with Docker. Their files are those of `make images`.
#
#   docker build --target operator --tag pintail-operator:0.1.0 .
#   docker build --target runner --tag pintail-runner:0.1.0 .

FROM rust:1.95-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends nodejs npm python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN scripts/setup run && scripts/build && target/release/xtask image --folders --output /images

FROM scratch AS operator
COPY --from=build /images/pintail-operator /
LABEL org.opencontainers.image.title="pintail-operator" \
      org.opencontainers.image.description="The controllers of Pintail" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/bin/pintail-operator"]

FROM scratch AS runner
COPY --from=build /images/pintail-runner /
LABEL org.opencontainers.image.title="pintail-runner" \
      org.opencontainers.image.description="Executes one task of a Pintail workflow with DuckDB" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt TMPDIR=/scratch
USER 65532:65532
ENTRYPOINT ["/bin/pintail-runner"]
