import swagger from "@fastify/swagger";
import scalar from "@scalar/fastify-api-reference";
import type { FastifyInstance } from "fastify";
import { jsonSchemaTransform, jsonSchemaTransformObject } from "fastify-type-provider-zod";

/** The OpenAPI 3.1 document of all routes, at `/openapi.json`, and readable at `/docs` with nothing loaded from elsewhere. */
export async function documentRoutes(server: FastifyInstance): Promise<void> {
  await server.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Drydock",
        version: "1",
        description:
          "Fine-tune vision-language models. Every error is `application/problem+json` (RFC 9457). Every POST takes an `Idempotency-Key`. Lists are paged by cursor.",
        license: { name: "Apache-2.0", identifier: "Apache-2.0" },
      },
      components: { securitySchemes: { apiKey: { type: "http", scheme: "bearer" } } },
      security: [{ apiKey: [] }],
      tags: [
        { name: "datasets", description: "Data sets, uploads and versions" },
        { name: "plans", description: "What a run would need, and why" },
        { name: "runs", description: "Fine-tuning runs" },
        { name: "evaluations", description: "Scores of models on data" },
        { name: "sweeps", description: "Searches for the best settings" },
        { name: "models", description: "Models that runs made" },
        { name: "pipelines", description: "What is done by itself when data changes or time comes" },
        { name: "webhooks", description: "Who is told of what happens" },
        { name: "catalogue", description: "Base models and accelerators" },
        { name: "queues", description: "What waits, and why" },
        { name: "cluster", description: "Nodes, and what is free of them" },
        { name: "keys", description: "API keys" },
        { name: "health", description: "Is it up" },
      ],
    },
    transform: jsonSchemaTransform,
    transformObject: jsonSchemaTransformObject,
  });
  server.get("/openapi.json", { schema: { hide: true } }, async () => server.swagger());
  await server.register(scalar, {
    routePrefix: "/docs",
    configuration: {
      withDefaultFonts: false,
      telemetry: false,
      agent: { disabled: true },
      mcp: { disabled: true },
      hideClientButton: true,
    },
  });
}
