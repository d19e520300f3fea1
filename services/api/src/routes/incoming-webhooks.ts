import { ConflictError, InvalidError, UnauthenticatedError, messageOf } from "@drydock/kit";
import { Name, PipelineRun } from "@drydock/spec";
import type { FastifyPluginAsync, FastifyRequest } from "fastify";
import type { FastifyPluginAsyncZod, ZodTypeProvider } from "fastify-type-provider-zod";
import { Webhook as StandardWebhook } from "standardwebhooks";
import { z } from "zod";
import { firePipelineTrigger } from "../pipelines/fire-trigger.ts";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { PipelineStore, toPipelineRun } from "../store/pipeline-store.ts";
import { newWebhookSecret } from "../webhooks/webhook-secret.ts";

/** What a sender says of its event is not looked at, so it need not be long. */
const bodyBytes = 64 * 1024;
const Params = z.object({ name: Name });
/** Names an event; the same starts one run. A full stop would let the signed text `id.timestamp.body` be cut at another place. */
const idPattern = /^(?!.*\.)[\x21-\x7e]{1,200}$/;
/** What requests to a pipeline without a secret are held against, so that they are refused in the same words. */
const nobodysSecret = newWebhookSecret();

/** `POST /v1/pipelines/{name}/webhook`: started from outside, by whoever signs with the pipeline's secret. Takes no API key. */
export const incomingWebhookRoutes: FastifyPluginAsync<{ services: Services }> = async (app, { services }) => {
  // A signature is of the bytes as they came.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer", bodyLimit: bodyBytes }, (_request, body, done) =>
    done(null, body),
  );
  await app.withTypeProvider<ZodTypeProvider>().register(routes, { services });
};

const routes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  app.post(
    "/pipelines/:name/webhook",
    {
      schema: {
        operationId: "receivePipelineWebhook",
        summary: "Start a pipeline from outside, by a signed request",
        description:
          "Signed as Standard Webhooks has it, with the secret of `POST /v1/pipelines/{name}/webhook-secret`: `webhook-id`, `webhook-timestamp` (no older than five minutes) and `webhook-signature`, HMAC-SHA256 over `id.timestamp.body`. The same `webhook-id` starts one run, however often it comes: repeats are answered with that run and 200. The body may be anything and is not looked at.",
        tags: ["pipelines"],
        security: [],
        params: Params,
        response: { 200: PipelineRun, 202: PipelineRun, ...problems(409, 413) },
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      const id = await authenticated(services, request, name);
      const { run, isReplay } = await services.database.transaction(async (tx) => {
        const store = new PipelineStore(tx);
        const pipeline = await store.lock(name);
        const key = `webhook/${id}`;
        const known = await store.findRunByTrigger(pipeline.id, key);
        if (known) return { run: known, isReplay: true };
        if (!pipeline.spec.triggers.some(({ type }) => type === "webhook"))
          refuse("no_webhook_trigger", `pipeline ${name} has no trigger of type "webhook": add one to its triggers`);
        if (pipeline.state === "paused")
          refuse("pipeline_paused", `pipeline ${name} is paused: resume it, then send this again`);
        const detail = `webhook ${id}`;
        const firing = { key, trigger: { type: "webhook", detail }, actor: "webhook", now: new Date() } as const;
        return { run: await firePipelineTrigger(tx, name, firing), isReplay: false };
      });
      services.outbox.kick();
      return await reply.code(isReplay ? 200 : 202).send(toPipelineRun(run));
    },
  );
};

/**
 * The id of an event whose signature is right.
 *
 * @throws UnauthenticatedError `invalid_signature`, the same whether there is no such pipeline, no secret, or another one
 * @throws InvalidError `invalid_webhook_id`
 */
async function authenticated(
  { pipelines, secrets }: Pick<Services, "pipelines" | "secrets">,
  request: FastifyRequest,
  name: string,
): Promise<string> {
  const pipeline = await pipelines.find(name);
  const sealed = pipeline?.webhookSecret ?? null;
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  const headers = Object.fromEntries(
    ["webhook-id", "webhook-timestamp", "webhook-signature"].map((header) => [
      header,
      String(request.headers[header] ?? ""),
    ]),
  );
  try {
    const secret = sealed === null ? nobodysSecret : secrets.open(sealed);
    new StandardWebhook(secret).verify(body, headers, { jsonParse: false });
  } catch (error) {
    throw unauthenticated(messageOf(error));
  }
  const id = headers["webhook-id"] ?? "";
  if (idPattern.test(id)) return id;
  const message = "webhook-id must be 1 to 200 printable characters without spaces and full stops";
  throw new InvalidError("invalid_webhook_id", message, {
    details: [{ path: "webhook-id", code: "invalid_webhook_id", message }],
  });
}

function unauthenticated(why: string): UnauthenticatedError {
  return new UnauthenticatedError(
    "invalid_signature",
    `the request is not signed with the secret of this pipeline (${why}): sign \`id.timestamp.body\` with the secret of POST /v1/pipelines/{name}/webhook-secret, and with the time of now`,
  );
}

function refuse(code: string, message: string): never {
  throw new ConflictError(code, message);
}
