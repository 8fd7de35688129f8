# Two images, each one static binary and nothing that could be logged into:
#
#   docker build --target operator       -t registry.example.com/multinic-operator:0.1.0 .
#   docker build --target viola-test-api -t registry.example.com/viola-test-api:0.1.0 .
#
# Without a registry and without Docker, tools/image makes the same images.
#
# CA certificates. Whom a connection trusts, in the operator's order: the API server is held to the
# service account's own CA; Contrabass, OpenStack and Viola each to their _CA_FILE, which a ConfigMap
# `operator-ca` brings in (manifests/manager/manager.yaml); and what has neither a _CA_FILE nor
# verification turned off, to the public roots in /etc/ssl/certs/ca-certificates.crt. Only the last
# needs anything in the image: the builder's bundle is copied, some 200 KB. CA_BUNDLE=/dev/null leaves
# it empty, for clusters where every authority is a private one.

# The tested target is glibc, linked statically. For the musl one, which is UNTESTED:
#   --build-arg TARGET=x86_64-unknown-linux-musl
ARG TARGET=x86_64-unknown-linux-gnu
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG VERSION=0.1.0

FROM ${RUST_IMAGE} AS builder
ARG TARGET
ARG CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /build
# ring's C parts need musl's compiler; the default target needs nothing more than the image has.
RUN case "$TARGET" in \
      *-musl) apt-get update && apt-get install -y --no-install-recommends musl-tools ;; \
    esac \
    && { rustup target list --installed | grep -qx "$TARGET" || rustup target add "$TARGET"; }
COPY . .
# In the unpacked archive of `make vendor` the crates lie beside the sources, and .cargo/config.toml sends
# cargo to them: nothing is fetched then.

# What licences want goes into both images.
RUN mkdir -p /root-folder/etc/ssl/certs /root-folder/var/lib/multinic-operator /root-folder/licenses \
    && cp LICENSE /root-folder/licenses/ \
    && gzip -9n < docs/THIRD-PARTY-LICENSES.txt > /root-folder/licenses/THIRD-PARTY-LICENSES.txt.gz \
    && cp "$CA_BUNDLE" /root-folder/etc/ssl/certs/ca-certificates.crt \
    && echo 'nonroot:x:65532:65532:nonroot:/:/nonexistent' > /root-folder/etc/passwd \
    && chown 65532:65532 /root-folder/var/lib/multinic-operator

FROM builder AS build-operator
RUN TARGET="$TARGET" tools/static multinic-operator \
    && cp "target/$TARGET/release/multinic-operator" /multinic-operator

FROM builder AS build-viola-test-api
RUN TARGET="$TARGET" tools/static viola-test-api \
    && cp "target/$TARGET/release/viola-test-api" /viola-test-api

FROM scratch AS viola-test-api
ARG VERSION
LABEL org.opencontainers.image.title="viola-test-api" \
      org.opencontainers.image.description="Stands in for Viola: turns posted node configurations into MultiNicNodeConfig objects" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /root-folder/etc/passwd /etc/passwd
COPY --from=builder /root-folder/licenses /licenses
COPY --from=build-viola-test-api /viola-test-api /viola-test-api
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/viola-test-api"]

# Last, so that a build without --target gives the operator.
FROM scratch AS operator
ARG VERSION
LABEL org.opencontainers.image.title="multinic-operator" \
      org.opencontainers.image.description="Tells each OpenStack-hosted Kubernetes node which NIC has which address, name and MTU" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /root-folder/ /
COPY --from=build-operator /multinic-operator /multinic-operator
# A number: the kubelet can't see that a name isn't root's.
USER 65532:65532
# One heap for all threads: 10,000 VMs need 55 MB with it and 78 MB without, and no more CPU.
ENV MALLOC_ARENA_MAX=1
EXPOSE 18081 8081
ENTRYPOINT ["/multinic-operator"]
