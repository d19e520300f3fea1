import { ConflictError, newId } from "@drydock/kit";
import {
  IncomingWebhook,
  Name,
  PageQuery,
  Pipeline,
  PipelineDryRun,
  PipelineRun,
  PipelineSpec,
  pageOf,
} from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { callerOf } from "../authentication.ts";
import { pageFrom } from "../pages.ts";
import { dryRun } from "../pipelines/dry-run.ts";
import { firePipelineTrigger } from "../pipelines/fire-trigger.ts";
import { changeSpec, checkCircle, checkNewPipeline } from "../pipelines/write-pipeline.ts";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { PipelineStore, toPipeline, toPipelineRun } from "../store/pipeline-store.ts";
import { newWebhookSecret } from "../webhooks/webhook-secret.ts";
import { writeOnce } from "../writes.ts";

const PipelineParams = z.object({ name: Name });
const ChangeHeaders = z.object({
  "if-match": z.string().max(200).optional().meta({ description: "ETag of the pipeline as you know it" }),
});

/** `/v1/pipelines`: what is done by itself when data changes or time comes. */
export const pipelineRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { pipelines, writes, outbox, database, secrets } = services;

  app.post(
    "/pipelines",
    {
      schema: {
        operationId: "createPipeline",
        summary: "Make a pipeline: train or sweep, evaluate, gate, approve, promote",
        description:
          "Refused when its steps, schedules or rules do not hold together, or when pipelines would start one another in a circle.",
        tags: ["pipelines"],
        body: PipelineSpec,
        response: { 201: Pipeline, ...problems(404, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const pipeline = await writeOnce(writes, request, reply, {
        prepare: async () => await checkNewPipeline(services, request.body),
        write: async (tx) => {
          await checkCircle(tx, request.body);
          const now = new Date();
          const row = await new PipelineStore(tx).insert(request.body, now);
          return { answer: toPipeline(row, now), object: row.id };
        },
      });
      return await reply
        .code(201)
        .header("location", `/v1/pipelines/${pipeline.name}`)
        .header("etag", pipeline.etag)
        .send(pipeline);
    },
  );

  app.get(
    "/pipelines",
    {
      schema: {
        operationId: "listPipelines",
        summary: "List pipelines, by name",
        tags: ["pipelines"],
        response: { 200: z.object({ items: z.array(Pipeline) }), ...problems() },
      },
    },
    async () => ({ items: (await pipelines.all()).map((row) => toPipeline(row, new Date())) }),
  );

  app.get(
    "/pipelines/:name",
    {
      schema: {
        operationId: "getPipeline",
        summary: "Read a pipeline",
        tags: ["pipelines"],
        params: PipelineParams,
        response: { 200: Pipeline, ...problems(404) },
      },
    },
    async (request, reply) => {
      const pipeline = toPipeline(await pipelines.get(request.params.name), new Date());
      return await reply.header("etag", pipeline.etag).send(pipeline);
    },
  );

  app.put(
    "/pipelines/:name",
    {
      schema: {
        operationId: "changePipeline",
        summary: "Change a pipeline; runs that are open go on as they were started",
        tags: ["pipelines"],
        params: PipelineParams,
        headers: ChangeHeaders,
        body: PipelineSpec,
        response: { 200: Pipeline, ...problems(404, 409, 412, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      const pipeline = await writeOnce(writes, request, reply, {
        prepare: async () => {
          if (request.body.name !== name)
            throw new ConflictError(
              "pipeline_renamed",
              `the body is of pipeline "${request.body.name}", the URL of "${name}": a pipeline keeps its name`,
            );
          await checkNewPipeline(services, request.body);
        },
        write: async (tx) => {
          await checkCircle(tx, request.body);
          const store = new PipelineStore(tx);
          const row = await store.lock(name, request.headers["if-match"]);
          const now = new Date();
          await changeSpec(tx, row, request.body, now);
          return { answer: toPipeline(await store.get(name), now), object: row.id };
        },
      });
      return await reply.header("etag", pipeline.etag).send(pipeline);
    },
  );

  for (const [action, state, summary] of [
    ["pause", "paused", "Start no run by itself; times that pass meanwhile are not caught up"],
    ["resume", "enabled", "Start runs by itself again"],
  ] as const)
    app.post(
      `/pipelines/:name/${action}`,
      {
        schema: {
          operationId: `${action}Pipeline`,
          summary,
          tags: ["pipelines"],
          params: PipelineParams,
          headers: ChangeHeaders,
          body: z.strictObject({}).nullish(),
          response: { 200: Pipeline, ...problems(404, 412, 415, 422) },
        },
      },
      async (request, reply) => {
        const { name } = request.params;
        return await writeOnce(writes, request, reply, {
          prepare: async () => null,
          write: async (tx) => {
            const store = new PipelineStore(tx);
            const row = await store.lock(name, request.headers["if-match"]);
            if (row.state !== state) await store.change(row, { state });
            return {
              answer: toPipeline(await store.get(name), new Date()),
              object: row.state === state ? null : row.id,
            };
          },
        });
      },
    );

  app.delete(
    "/pipelines/:name",
    {
      schema: {
        operationId: "deletePipeline",
        summary: "Delete a pipeline with the history of its runs; models and runs that it made stay",
        tags: ["pipelines"],
        params: PipelineParams,
        headers: ChangeHeaders,
        response: { 204: z.null(), ...problems(404, 409, 412) },
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      await database.transaction(async (tx) => {
        const store = new PipelineStore(tx);
        const row = await store.lock(name, request.headers["if-match"]);
        const [open] = await store.openRuns(row.id);
        if (open)
          throw new ConflictError(
            "pipeline_is_running",
            `run ${open.number} of pipeline ${name} is ${open.state}: cancel it first`,
          );
        await store.remove(row);
      });
      return await reply.code(204).send(null);
    },
  );

  app.post(
    "/pipelines/:name/trigger",
    {
      schema: {
        operationId: "triggerPipeline",
        summary: "Start a pipeline now; its overlap rule and budget hold for people, too",
        tags: ["pipelines"],
        params: PipelineParams,
        body: z.strictObject({}).nullish(),
        response: { 201: PipelineRun, ...problems(404, 415, 422) },
      },
    },
    async (request, reply) => {
      const run = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const actor = callerOf(request).id;
          const row = await firePipelineTrigger(tx, request.params.name, {
            key: `manual/${newId("event")}`,
            trigger: { type: "manual", detail: "started by hand" },
            actor,
            now: new Date(),
          });
          return { answer: toPipelineRun(row), object: row.id };
        },
      });
      outbox.kick();
      return await reply.code(201).header("location", `/v1/pipeline-runs/${run.id}`).send(run);
    },
  );

  app.post(
    "/pipelines/:name/webhook-secret",
    {
      config: { scope: "admin" },
      schema: {
        operationId: "makePipelineWebhookSecret",
        summary:
          "Make a secret for those who start this pipeline from outside; the one before is worth nothing from now on",
        description: "Shown once, so it takes no `Idempotency-Key`.",
        tags: ["pipelines"],
        params: PipelineParams,
        body: z.strictObject({}).nullish(),
        response: { 201: IncomingWebhook, ...problems(404, 415) },
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      const secret = newWebhookSecret();
      delete request.headers["idempotency-key"];
      await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const store = new PipelineStore(tx);
          const row = await store.lock(name);
          await store.change(row, { webhookSecret: secrets.seal(secret) });
          return { answer: null, object: row.id };
        },
      });
      return await reply.code(201).send({ path: `/v1/pipelines/${name}/webhook`, secret });
    },
  );

  app.post(
    "/pipelines/:name/dry-run",
    {
      schema: {
        operationId: "dryRunPipeline",
        summary: "What would happen if it were started now",
        tags: ["pipelines"],
        params: PipelineParams,
        body: z.strictObject({}).nullish(),
        response: { 200: PipelineDryRun, ...problems(404, 409, 415, 422) },
      },
    },
    async (request) => await dryRun(services, (await pipelines.get(request.params.name)).spec, new Date()),
  );

  app.get(
    "/pipelines/:name/runs",
    {
      schema: {
        operationId: "listPipelineRuns",
        summary: "Runs of a pipeline, newest first, those included that were left out and why",
        tags: ["pipelines"],
        params: PipelineParams,
        querystring: PageQuery,
        response: { 200: pageOf(PipelineRun), ...problems(404) },
      },
    },
    async (request) => {
      const { id } = await pipelines.get(request.params.name);
      return pageFrom(await pipelines.listRuns(id, request.query), request.query.limit, toPipelineRun, (row) => row.id);
    },
  );
};
