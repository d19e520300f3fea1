import multipart from "@fastify/multipart";
import { newId } from "@drydock/kit";
import fastify, { type FastifyBaseLogger, type FastifyInstance } from "fastify";
import { serializerCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import { requireApiKey, requireInternalKey } from "./authentication.ts";
import { installConditionalRequests } from "./conditional-requests.ts";
import { answerUnreadableUrl, installErrorHandling } from "./errors.ts";
import { documentRoutes } from "./openapi.ts";
import { catalogueRoutes } from "./routes/catalogue.ts";
import { clusterRoutes } from "./routes/cluster.ts";
import { datasetVersionRoutes } from "./routes/dataset-versions.ts";
import { datasetRoutes } from "./routes/datasets.ts";
import { evaluationComparisonRoutes } from "./routes/evaluation-comparison.ts";
import { evaluationReportRoutes } from "./routes/evaluation-reports.ts";
import { evaluationSuiteRoutes } from "./routes/evaluation-suites.ts";
import { evaluationRoutes } from "./routes/evaluations.ts";
import { healthRoutes } from "./routes/health.ts";
import { incomingWebhookRoutes } from "./routes/incoming-webhooks.ts";
import { internalPipelineRoutes } from "./routes/internal-pipelines.ts";
import { internalRegistryRoutes } from "./routes/internal-registry.ts";
import { internalSweepRoutes } from "./routes/internal-sweeps.ts";
import { internalRoutes } from "./routes/internal.ts";
import { keyRoutes } from "./routes/keys.ts";
import { modelAliasRoutes } from "./routes/model-aliases.ts";
import { modelManifestRoutes } from "./routes/model-manifests.ts";
import { modelRegistryRoutes } from "./routes/model-registry.ts";
import { modelRetentionRoutes } from "./routes/model-retention.ts";
import { modelRoutes } from "./routes/models.ts";
import { observationRoutes } from "./routes/observations.ts";
import { pipelineRunRoutes } from "./routes/pipeline-runs.ts";
import { pipelineRoutes } from "./routes/pipelines.ts";
import { planRoutes } from "./routes/plans.ts";
import { installMetrics } from "./routes/prometheus.ts";
import { queueRoutes } from "./routes/queues.ts";
import { runDetailRoutes } from "./routes/run-details.ts";
import { runRoutes } from "./routes/runs.ts";
import { sweepRoutes } from "./routes/sweeps.ts";
import { uploadRoutes } from "./routes/uploads.ts";
import { webhookRoutes } from "./routes/webhooks.ts";
import { createServices, type ServiceOptions, type Services } from "./services.ts";
import { requestValidatorCompiler } from "./validation-issues.ts";

export interface App {
  readonly server: FastifyInstance;
  readonly services: Services;
}

/** Bodies of the internal routes: a version's statistics and report are megabytes, a batch of a thousand metrics less. */
const internalBodyBytes = 64 * 2 ** 20;

const publicRoutes = [
  datasetRoutes,
  uploadRoutes,
  datasetVersionRoutes,
  planRoutes,
  runRoutes,
  runDetailRoutes,
  sweepRoutes,
  pipelineRoutes,
  pipelineRunRoutes,
  evaluationRoutes,
  evaluationComparisonRoutes,
  evaluationSuiteRoutes,
  evaluationReportRoutes,
  modelRoutes,
  modelRegistryRoutes,
  modelAliasRoutes,
  modelManifestRoutes,
  modelRetentionRoutes,
  observationRoutes,
  catalogueRoutes,
  queueRoutes,
  clusterRoutes,
  keyRoutes,
  webhookRoutes,
];

/** The whole api as one Fastify instance, not listening yet. Closing it ends open streams and the outbox, not the database. */
export async function buildApp(options: ServiceOptions): Promise<App> {
  const closing = new AbortController();
  const services = createServices(options, closing.signal);
  const server = fastify({
    loggerInstance: options.logger as FastifyBaseLogger,

    frameworkErrors: answerUnreadableUrl,
    genReqId: () => newId("request"),
    bodyLimit: services.limits.bodyBytes,
    // Slow uploads are fine, slow headers are not.
    http: { headersTimeout: 30_000, requestTimeout: 0 },
    forceCloseConnections: "idle",
    routerOptions: { maxParamLength: 200 },
  });
  server.removeContentTypeParser("text/plain");
  server.setValidatorCompiler(requestValidatorCompiler);
  server.setSerializerCompiler(serializerCompiler);
  installErrorHandling(server, options.logger);
  installConditionalRequests(server);
  server.addHook("onSend", async (request, reply) => void reply.header("x-request-id", request.id));
  server.addHook("preClose", async () => closing.abort());
  server.addHook("onClose", async () => {
    await services.schedules.close();
    await services.webhookLoop.close();
    await services.housekeeping.close();
    await services.statistics.close();
    await services.outbox.close();
  });

  await documentRoutes(server);
  await installMetrics(server as unknown as FastifyInstance, services);
  await server.register(multipart);
  await server.register(healthRoutes, { services });
  await server.register(incomingWebhookRoutes, { services, prefix: "/v1" });
  await server.register(
    async (v1) => {
      requireApiKey(v1, services.keys);
      for (const routes of publicRoutes) await v1.withTypeProvider<ZodTypeProvider>().register(routes, { services });
    },
    { prefix: "/v1" },
  );
  await server.register(
    async (internal) => {
      requireInternalKey(internal, services.internalKey);
      await internal.register(internalRoutes, { services });
      await internal.register(internalRegistryRoutes, { services });
      await internal.register(internalSweepRoutes, { services });
      await internal.register(internalPipelineRoutes, { services });
    },
    { prefix: "/internal/v1", bodyLimit: internalBodyBytes },
  );
  return { server: server as unknown as FastifyInstance, services };
}
