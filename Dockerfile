# The image of xvault: compiled JavaScript, production dependencies, Node. No shell is needed, nothing is written.
#
#   docker build -t xvault .
#   docker run --read-only --env-file xvault.env -p 8080:8080 xvault            the service
#   docker run --read-only --rm --network host xvault demo                      the demo, on the loopback
#
# Base images are arguments: pin them by digest in a release (node@sha256:…). The last one may be any image with
# Node 24 in PATH or in /nodejs/bin (distroless). test/image/check.sh builds and runs this file without Docker.
ARG BUILD_IMAGE=node:24-bookworm-slim
ARG RUN_IMAGE=node:24-bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY test ./test
RUN npm run prepack && npm prune --omit=dev --ignore-scripts

FROM ${RUN_IMAGE}
LABEL org.opencontainers.image.title="xvault" \
      org.opencontainers.image.description="Backs up XenServer and XCP-ng machines to object storage" \
      org.opencontainers.image.licenses="MIT"
ENV NODE_ENV=production \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/nodejs/bin \
    XVAULT_LISTEN=0.0.0.0:8080
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
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
ENTRYPOINT ["node", "--enable-source-maps", "/app/dist/src/main.js"]
CMD ["serve"]
