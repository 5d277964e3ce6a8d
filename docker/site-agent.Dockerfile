# A site agent alone, computing with WebAssembly on the processor. Build from the root of the repository:
# docker build -f docker/site-agent.Dockerfile .

FROM node:20-bookworm-slim AS packages
WORKDIR /consilium
COPY package.json package-lock.json ./
COPY shared/package.json shared/
COPY coordinator/package.json coordinator/
COPY site-agent/package.json site-agent/
# Without installation scripts TensorFlow's native library is not fetched, and this image has no graphics driver: the
# packages of both would be dead weight.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund --include-workspace-root \
      --workspace @consilium/site-agent --workspace @consilium/shared \
  && rm -rf node_modules/@tensorflow/tfjs-node node_modules/@tensorflow/tfjs-node-gpu \
       node_modules/@tensorflow/tfjs-backend-webgpu node_modules/webgpu

FROM node:20-bookworm-slim
WORKDIR /consilium
COPY --from=packages /consilium/ ./
COPY shared/ shared/
COPY site-agent/ site-agent/
RUN mkdir /site && chown node:node /site && chmod 700 /site
USER node
ENV NODE_ENV=production CONSILIUM_HOME=/site
VOLUME /site
ENTRYPOINT ["node", "site-agent/bin/consilium-site.js"]
CMD ["run"]
