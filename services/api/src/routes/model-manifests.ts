import { NotFoundError, newId } from "@drydock/kit";
import { Model, ModelVerification, SignedManifest, SigningKey } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { callerOf } from "../authentication.ts";
import { problems } from "../problem-responses.ts";
import { requireSound } from "../registry/model-verifier.ts";
import { signAgain } from "../registry/register-model.ts";
import type { Services } from "../services.ts";
import { ModelStore } from "../store/model-store.ts";
import { answerOnce, writeOnce } from "../writes.ts";
import { NumberedParams } from "./model-registry.ts";
import { ModelParams } from "./models.ts";

/** Signed manifests of models: read, verify, sign again; and the key with which anybody can verify them. */
export const modelManifestRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { models, verifier, signer, writes } = services;

  app.get(
    "/signing-key",
    {
      schema: {
        operationId: "getSigningKey",
        summary: "The public key that manifests of models are verified with",
        tags: ["models"],
        response: { 200: SigningKey, ...problems() },
      },
    },
    async () => ({ algorithm: "ed25519" as const, keyId: signer.keyId, publicKey: signer.publicKey }),
  );

  app.get(
    "/models/:name/versions/:version/manifest",
    {
      schema: {
        operationId: "getModelManifest",
        summary: "The signed list of a version's files and where it came from",
        description:
          "Signed is the canonical JSON of `manifest`: keys sorted at every level, no spaces, UTF-8. The key is at `/v1/signing-key`.",
        tags: ["models"],
        params: ModelParams,
        response: { 200: SignedManifest, ...problems(404) },
      },
    },
    async (request) => {
      const { name, version } = await models.get(request.params.name, request.params.version);
      const { signed } = await verifier.manifest(name, version);
      if (signed !== null) return signed;
      throw new NotFoundError(
        "no_manifest",
        `${name}@${version} has no signed manifest, since it was made before there were any: POST /v1/models/${name}/versions/${version}/manifest signs it after its files were checked`,
      );
    },
  );

  app.post(
    "/models/:name/versions/:version/verification",
    {
      schema: {
        operationId: "verifyModel",
        summary: "Compare the files in storage with the signed manifest",
        description:
          "Reads every byte, so it takes as long as that. Problems are in the answer, each with the file's name.",
        tags: ["models"],
        params: ModelParams,
        body: z.strictObject({}).nullish(),
        response: { 200: ModelVerification, ...problems(404, 409, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name, version } = await models.get(request.params.name, request.params.version);
      return await answerOnce(writes, request, reply, async () => await verifier.verify(name, version));
    },
  );

  app.post(
    "/models/:name/versions/:version/manifest",
    {
      config: { scope: "admin" },
      schema: {
        operationId: "signModel",
        summary: "Sign a version with the deployment's present key",
        description:
          "For models that were made before there were manifests, and after the key was replaced. The files must be what was recorded when the model was made.",
        tags: ["models"],
        params: NumberedParams,
        body: z.strictObject({}).nullish(),
        response: { 200: Model, ...problems(404, 409, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name, version } = request.params;
      return await writeOnce(writes, request, reply, {
        prepare: async () => {
          const { problems: found, ...verification } = await verifier.verify(name, version);
          // A key that is not ours, or none, is what signing again is for; anything else is damage.
          const damage = found.filter(({ code }) => code !== "no_manifest" && code !== "unknown_key");
          requireSound({ ...verification, problems: damage, isSound: damage.length === 0 });
        },
        write: async (tx) => {
          await signAgain(tx, signer, { name, version, actor: callerOf(request).id, key: newId("event") });
          return { answer: await new ModelStore(tx).get(name, version), object: `${name}@${version}` };
        },
      });
    },
  );
};
