import { NotFoundError } from "@drydock/kit";
import { Timestamp } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { KeyStore, newSecret } from "../store/key-store.ts";
import { writeOnce } from "../writes.ts";

const Scope = z
  .enum(["read", "submit", "admin"])
  .meta({ id: "Scope", description: "Each includes the ones before it" });
const ApiKey = z
  .object({ id: z.string(), name: z.string(), scopes: z.array(Scope), createdAt: Timestamp })
  .meta({ id: "ApiKey" });
const NewApiKey = ApiKey.extend({ secret: z.string().meta({ description: "Shown this once" }) }).meta({
  id: "NewApiKey",
});
const KeyCreation = z
  .strictObject({ name: z.string().min(1).max(100), scopes: z.array(Scope).min(1) })
  .meta({ id: "KeyCreation" });

/** `/v1/keys`: who may do what. Needs the scope `admin`. */
export const keyRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { keys, writes } = services;
  const config = { scope: "admin" as const };

  app.post(
    "/keys",
    {
      config,
      schema: {
        operationId: "createKey",
        summary: "Make an API key",
        description: "Takes no `Idempotency-Key`: an answer that is kept would keep the secret.",
        tags: ["keys"],
        body: KeyCreation,
        response: { 201: NewApiKey, ...problems(413, 415, 422) },
      },
    },
    async (request, reply) => {
      const secret = newSecret();
      delete request.headers["idempotency-key"];
      const key = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const answer = await new KeyStore(tx).insert(request.body.name, secret, request.body.scopes);
          return { answer, object: answer.id };
        },
      });
      return await reply.code(201).send({ ...key, scopes: [...key.scopes], secret });
    },
  );

  app.get(
    "/keys",
    {
      config,
      schema: {
        operationId: "listKeys",
        summary: "List API keys, without their secrets",
        tags: ["keys"],
        response: { 200: z.object({ items: z.array(ApiKey) }), ...problems() },
      },
    },
    async () => ({ items: (await keys.list()).map((key) => ({ ...key, scopes: [...key.scopes] })) }),
  );

  app.delete(
    "/keys/:keyId",
    {
      config,
      schema: {
        operationId: "revokeKey",
        summary: "Revoke an API key",
        description: "It stops working within five seconds.",
        tags: ["keys"],
        params: z.object({ keyId: z.string().max(64) }),
        response: { 200: z.object({ id: z.string() }), ...problems(404) },
      },
    },
    async (request, reply) => {
      const { keyId } = request.params;
      return await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          if (!(await new KeyStore(tx).revoke(keyId)))
            throw new NotFoundError("key_not_found", `there is no API key "${keyId}": list them with GET /v1/keys`);
          return { answer: { id: keyId }, object: keyId };
        },
      });
    },
  );
};
