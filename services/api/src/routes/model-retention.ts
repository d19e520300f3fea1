import { RetentionOutcome, RetentionRule, StoredRetentionRule } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { callerOf } from "../authentication.ts";
import { problems } from "../problem-responses.ts";
import {
  markRemoved,
  previewRetention,
  removeMarkedFiles,
  retentionRuleOf,
  setRetentionRule,
} from "../registry/apply-retention.ts";
import type { Services } from "../services.ts";
import { answerOnce, writeOnce } from "../writes.ts";
import { NameParams } from "./model-registry.ts";

/** `/v1/models/{name}/retention`: which versions are kept, and what that would remove. Changing anything needs the scope `admin`. */
export const modelRetentionRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { database, storage, writes } = services;
  const config = { scope: "admin" as const };

  app.get(
    "/models/:name/retention",
    {
      schema: {
        operationId: "getRetentionRule",
        summary: "The retention rule of a model",
        tags: ["models"],
        params: NameParams,
        response: { 200: StoredRetentionRule, ...problems(404) },
      },
    },
    async (request) => await retentionRuleOf(database, request.params.name),
  );

  app.put(
    "/models/:name/retention",
    {
      config,
      schema: {
        operationId: "setRetentionRule",
        summary: "Set the retention rule of a model",
        description:
          "Nothing is removed until the rule is applied: by a request, or once an hour when it is `automatic`.",
        tags: ["models"],
        params: NameParams,
        body: RetentionRule,
        response: { 200: StoredRetentionRule, ...problems(404, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      return await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          await setRetentionRule(tx, name, request.body);
          return { answer: await retentionRuleOf(tx, name), object: name };
        },
      });
    },
  );

  app.post(
    "/models/:name/retention/preview",
    {
      schema: {
        operationId: "previewRetention",
        summary: "What a rule would remove now, and why the rest is kept",
        description: "A dry run: nothing is changed. Without a body: the model's own rule.",
        tags: ["models"],
        params: NameParams,
        body: RetentionRule.nullish(),
        response: { 200: RetentionOutcome, ...problems(404, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      return await answerOnce(writes, request, reply, async () => {
        const rule = request.body ?? (await retentionRuleOf(database, name)).rule;
        return await previewRetention(database, name, rule, new Date());
      });
    },
  );

  app.post(
    "/models/:name/retention/apply",
    {
      config,
      schema: {
        operationId: "applyRetention",
        summary: "Remove the files that the model's rule does not keep",
        description:
          "What was removed stays in the list, as history. Applying again removes what an interrupted try left.",
        tags: ["models"],
        params: NameParams,
        body: z.strictObject({}).nullish(),
        response: { 200: RetentionOutcome, ...problems(404, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      const outcome = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const answer = await markRemoved(tx, { name, actor: callerOf(request).id, now: new Date() });
          return { answer, object: name };
        },
      });
      await removeMarkedFiles(database, storage, name);
      return outcome;
    },
  );
};
