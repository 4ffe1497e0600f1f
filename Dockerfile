# The image holds one file that runs: a static binary on an empty root, as user 65532. There is no
# shell in it, no package manager and no CA store; surgetank carries Mozilla's root certificates for
# that case. To trust a CA of your own as well, mount a bundle and set SSL_CERT_FILE.
#
#   docker build -t surgetank:0.1.0 .                       (BuildKit; podman build works alike)
#   docker run --read-only --cap-drop ALL -e SURGETANK_LISTEN=0.0.0.0:4290 \
#     -e SURGETANK_LISTEN_WITHOUT_AUTH=true -p 127.0.0.1:4290:4290 surgetank:0.1.0
#
# Who can reach it: with no setting surgetank listens on the loopback of its network namespace. That is
# right in a pod, where the application shares it. A container that stands alone has a loopback nobody
# else can reach, hence SURGETANK_LISTEN above. Beyond loopback surgetank asks its callers for a token
# (`auth` in the configuration) and does not start without; SURGETANK_LISTEN_WITHOUT_AUTH says that
# something else keeps strangers out, as the published port above does by staying on the host's
# loopback. The admin port stays inside.
#
# Reproducible: the same commit built twice gives the same bytes when the base image is the same, so
# pin it by digest for a release (--build-arg RUST_IMAGE=rust@sha256:...). Cargo.lock fixes the crates,
# one codegen unit and no incremental state fix the code, and the paths of the build are mapped away.
# The C library of the base is linked in, which is why the digest matters, and why a fix in it needs a
# new image. Compare with: docker create, docker cp CONTAINER:/surgetank, sha256sum.
ARG RUST_IMAGE=rust:1.95-bookworm

FROM ${RUST_IMAGE} AS build
# `ci` builds in a third of the time, for tests of the image; what is released is `release`.
ARG PROFILE=release
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
COPY . .
# Only downloads are cached: compiled files of another commit, trusted by their dates, could end up in
# this one's image.
# `--target` is named although it is the host's: without it the flags would reach build scripts and
# macros too, which cannot be static.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    target="$(uname -m)-unknown-linux-gnu"; \
    export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/usr/local/cargo=/cargo"; \
    CARGO_INCREMENTAL=0 cargo build --profile "$PROFILE" --locked --target "$target" --target-dir /build; \
    install -D --mode=0755 "/build/$target/$PROFILE/surgetank" /out/surgetank

FROM scratch
LABEL org.opencontainers.image.title="surgetank" \
      org.opencontainers.image.description="A reverse proxy beside your application that keeps AI API calls alive through 429s, outages and cut streams." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /LICENSE
COPY --from=build /out/surgetank /surgetank
USER 65532:65532
EXPOSE 4290 4291
# SIGTERM drains: give `docker stop --time` what your longest answer takes.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/surgetank", "health"]
ENTRYPOINT ["/surgetank"]
