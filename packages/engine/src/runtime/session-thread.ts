/*
 * What runs on the session thread: ONNX Runtime's sessions. `run` there blocks its thread, and on the main thread it would
 * keep the process from answering anyone for as long as a training step takes.
 */
import { InferenceSession, Tensor } from "onnxruntime-node";
import { serveThread } from "./serve-thread.ts";
import type { SentTensor, SessionAnswer, SessionRequest } from "./session-messages.ts";

const sessions = new Map<number, InferenceSession>();
let opened = 0;

async function answer(request: SessionRequest): Promise<SessionAnswer> {
  if (request.kind === "open") {
    const session = ++opened;
    sessions.set(session, await InferenceSession.create(request.model, request.options));
    return { kind: "opened", session };
  }
  const session = sessions.get(request.session);
  if (!session) throw new Error(`session ${request.session} is closed`);
  if (request.kind === "close") {
    sessions.delete(request.session);
    await session.release();
    return { kind: "closed" };
  }
  const fetches: Record<string, Tensor | null> = Object.fromEntries(request.wanted.map((name) => [name, null]));
  for (const target of request.targets) fetches[target.name] = tensorOf(target);
  const feeds = Object.fromEntries(request.feeds.map((feed) => [feed.name, tensorOf(feed)]));
  const results = await session.run(feeds, fetches);
  const outputs = request.wanted.map((name): SentTensor => {
    const { data, dims } = results[name] as Tensor;
    return { name, data: data as Float32Array, shape: dims };
  });
  return { kind: "ran", outputs };
}

function tensorOf({ data, shape }: SentTensor): Tensor {
  if (data instanceof Float32Array) return new Tensor("float32", data, shape);
  return data instanceof Uint8Array ? new Tensor("uint8", data, shape) : new Tensor("int64", data, shape);
}

serveThread(answer);
