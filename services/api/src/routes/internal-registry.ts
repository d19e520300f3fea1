import { ConflictError } from "@drydock/kit";
import { CheckedManifest, Model, PromotionOrder, PromotionResult, RollbackOrder } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { promoteCandidate } from "../pipelines/advance.ts";
import { problems } from "../problem-responses.ts";
import { requireSound } from "../registry/model-verifier.ts";
import { promoteModel } from "../registry/promote-model.ts";
import { rollBack } from "../registry/roll-back.ts";
import type { Services } from "../services.ts";
import { NameParams, NumberedParams } from "./model-registry.ts";
import { ModelParams } from "./models.ts";

/** `/internal/v1/models`: what workflows do with the registry. Every call may be repeated. */
export const internalRegistryRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { models, verifier, database } = services;

  app.get(
    "/models/:name/versions/:version",
    { schema: { hide: true, params: ModelParams, response: { 200: Model, ...problems(404) } } },
    async (request) => await models.get(request.params.name, request.params.version),
  );

  app.get(
    "/models/:name/versions/:version/manifest",
    { schema: { hide: true, params: NumberedParams, response: { 200: CheckedManifest, ...problems(404) } } },
    async (request) => (await verifier.manifest(request.params.name, request.params.version)).checked,
  );

  app.post(
    "/models/:name/versions/:version/promote",
    {
      schema: {
        hide: true,
        params: NumberedParams,
        body: PromotionOrder,
        response: { 200: PromotionResult, ...problems(404, 409, 422) },
      },
    },
    async (request) => {
      const { name, version } = request.params;
      const { verification, pipelineRun, ...order } = request.body;
      if (verification.name !== name || verification.version !== version)
        throw new ConflictError(
          "verification_mismatch",
          `the verification is of ${verification.name}@${verification.version}, not of ${name}@${version}: verify that one`,
        );
      requireSound(verification);
      // The controller has read the files; whether the manifest is ours and unchanged is known here only.
      const { checked } = await verifier.manifest(name, version);
      requireSound({ ...verification, isSound: checked.problems.length === 0, problems: checked.problems });
      const manifestDigest = verification.manifestDigest ?? undefined;
      const promotion = { name, version, to: "production", ...order, manifestDigest } as const;
      return await database.transaction(async (tx) =>
        pipelineRun === undefined
          ? await promoteModel(tx, promotion)
          : await promoteCandidate(tx, pipelineRun, promotion),
      );
    },
  );

  app.post(
    "/models/:name/rollback",
    {
      schema: {
        hide: true,
        params: NameParams,
        body: RollbackOrder,
        response: { 200: PromotionResult, ...problems(404, 409) },
      },
    },
    async (request) =>
      await database.transaction(async (tx) => await rollBack(tx, { name: request.params.name, ...request.body })),
  );
};
