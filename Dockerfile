# The image of xvault: compiled JavaScript, those files of its packages that a start can read, Node. No shell, no package manager;
# nothing is written.
#
#   docker build -t xvault .
#   docker run --read-only --env-file xvault.env -p 8080:8080 xvault            the service
#   docker run --read-only --rm --network host xvault demo                      the demo, on the loopback
#
# Base images are arguments: pin them by digest in a release (…@sha256:…). The last one may be any image with Node 24 in PATH or in
# /nodejs/bin, node:24-bookworm-slim too, for those who want a shell. The first stage runs on the builder's own kind of machine
# whatever it builds for: there is nothing native in what it makes. docs/deploy.md says how to build for several kinds, with labels,
# and the same bytes again. test/image/check.sh builds and runs this file without Docker.
ARG BUILD_IMAGE=node:24-bookworm-slim
ARG RUN_IMAGE=gcr.io/distroless/nodejs24-debian12:nonroot

FROM --platform=$BUILDPLATFORM ${BUILD_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY test ./test
COPY infra/prune-modules.ts ./infra/
ARG SOURCE_DATE_EPOCH
RUN npm run prepack && \
    npm sbom --package-lock-only --sbom-format=cyclonedx --sbom-type=application >sbom.cdx.json && \
    node infra/prune-modules.ts . dist/src/main.js --sbom sbom.cdx.json

FROM ${RUN_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="xvault" \
      org.opencontainers.image.description="Backs up XenServer and XCP-ng machines to object storage" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
ENV NODE_ENV=production \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/nodejs/bin \
    XVAULT_LISTEN=0.0.0.0:8080
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/sbom.cdx.json ./
COPY test/fixtures/disks ./test/fixtures/disks
COPY package.json LICENSE ./
COPY infra/healthcheck.mjs ./
# By number, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
EXPOSE 8080
# SIGTERM drains: no new jobs, the running ones finish or leave nothing behind, then exit 0.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s CMD ["node", "/app/healthcheck.mjs"]
# Node itself is process 1: a shell or npm in between would swallow the signals.
# docs/performance.md says why.
ENTRYPOINT ["node", "--max-semi-space-size=8", "--max-old-space-size=2000", "--enable-source-maps", "/app/dist/src/main.js"]
CMD ["serve"]
