// The HTTP side of the coordinator as a Fastify instance over given services. It opens no port and no database; tests
// speak to it through `inject`.

import { randomUUID } from "node:crypto";
import { minuteMs, secondMs } from "@consilium/shared/base/units.ts";
import { jsonBodyBytesMax } from "@consilium/shared/protocol/limits.ts";
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify, { type FastifyInstance } from "fastify";
import type { CoordinatorConfig } from "./config.ts";
import type { Logger } from "./logger.ts";
import { type AccessPorts, documentationPrefix, registerAccess } from "./plugins/access.ts";
import { registerProblemDetails } from "./plugins/problem-details.ts";
import { type AuditRoutesPorts, auditRoutes } from "./routes/audit-routes.ts";
import { type ExportRoutesPorts, exportRoutes } from "./routes/export-routes.ts";
import { type OperatorRoutesPorts, operatorRoutes } from "./routes/operator-routes.ts";
import { type PublicRoutesPorts, publicRoutes } from "./routes/public-routes.ts";
import { type TransferRoutesPorts, transferRoutes } from "./routes/transfer-routes.ts";

export type AppPorts = AccessPorts &
  PublicRoutesPorts &
  TransferRoutesPorts &
  OperatorRoutesPorts &
  AuditRoutesPorts &
  ExportRoutesPorts;

const limits = {
  bodyLimit: jsonBodyBytesMax,
  /** A chunk of an upload over a slow line: 8 MiB at 256 kbit/s. */
  requestTimeout: 5 * minuteMs,
  connectionTimeout: 6 * minuteMs,
  keepAliveTimeout: 65 * secondMs,
  maxHeaderSize: 16 * 1024,
} as const;

export async function buildApp(
  ports: AppPorts,
  { logger, tls }: { logger: Logger; tls: CoordinatorConfig["tls"] },
): Promise<FastifyInstance> {
  const { bodyLimit, requestTimeout, connectionTimeout, keepAliveTimeout, maxHeaderSize } = limits;
  const http = tls
    ? { https: { cert: tls.certificate, key: tls.key, maxHeaderSize } }
    : { http: { maxHeaderSize } };
  const app = Fastify({
    ...http,
    bodyLimit,
    requestTimeout,
    connectionTimeout,
    keepAliveTimeout,
    forceCloseConnections: true,
    genReqId: () => randomUUID(),
    // Faults of the request are all listed; unknown members are refused rather than dropped.
    ajv: { customOptions: { allErrors: true, removeAdditional: false, coerceTypes: true } },
  }).withTypeProvider<TypeBoxTypeProvider>();
  registerProblemDetails(app as unknown as FastifyInstance, logger);
  registerAccess(app as unknown as FastifyInstance, ports);
  app.addHook("onSend", async (_request, reply) => {
    void reply.headers({
      "x-content-type-options": "nosniff",
      "cache-control": "no-store",
      "referrer-policy": "no-referrer",
    });
  });
  app.addHook("onResponse", async (request, reply) => {
    const { url: route = "unknown" } = request.routeOptions;
    logger.debug(
      { method: request.method, route, status: reply.statusCode, ms: Math.round(reply.elapsedTime) },
      "request",
    );
  });
  await registerDocumentation(app as unknown as FastifyInstance);
  await app.register(publicRoutes(ports));
  await app.register(transferRoutes(ports));
  await app.register(operatorRoutes(ports));
  await app.register(auditRoutes(ports));
  await app.register(exportRoutes(ports));
  return app as unknown as FastifyInstance; // The type provider is of no concern to whoever runs the instance.
}

/** The routes as OpenAPI at /docs and /docs/json. It describes the program and holds no data. */
async function registerDocumentation(app: FastifyInstance): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Consilium coordinator",
        version: "1",
        description: "See docs/PROTOCOL.md for the order of calls.",
      },
      components: { securitySchemes: { bearer: { type: "http", scheme: "bearer" } } },
      security: [{ bearer: [] }],
    },
  });
  await app.register(swaggerUi, { routePrefix: documentationPrefix });
}
