import { expect, test, vi } from "vitest";
import { inMemory, onEachDatabase, useApi, type TestApi } from "../../test/support/api.ts";

interface SentEvent {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: unknown;
}

function eventsOf(text: string): SentEvent[] {
  const blocks = text.split("\n\n").filter((block) => block.includes("event: "));
  return blocks.map((block) => {
    const field = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1];
    return { id: field("id"), event: field("event"), data: JSON.parse(field("data") ?? "null") as unknown };
  });
}

const sse = { accept: "text/event-stream" };

async function transition(api: TestApi, id: string, to: string): Promise<void> {
  await api.ok("POST", `/internal/v1/runs/${id}/transitions`, {
    key: `to-${to}`,
    to,
    reason: "worker-joined",
    message: `now ${to}`,
  });
}

/** Opens a stream and collects its text as it comes. */
async function open(
  api: TestApi,
  url: string,
  headers: Record<string, string> = {},
): Promise<{ text: () => string; ended: Promise<void>; close: () => void }> {
  const authorization = "Bearer dk_test-key-of-an-administrator";
  const response = await api.server.inject({
    method: "GET",
    url,
    headers: { ...sse, authorization, ...headers },
    payloadAsStream: true,
  });
  let text = "";
  const stream = response.stream();
  const ended = new Promise<void>((resolve) => stream.once("close", resolve));
  stream.on("data", (chunk: Buffer) => (text += chunk.toString())).on("error", () => undefined);
  return { text: () => text, ended, close: () => stream.destroy() };
}

onEachDatabase("live streams", (location) => {
  const api = useApi(location);

  test("events come as they happen, and the stream ends with the run", async () => {
    const { id } = await api().submitRun();
    const stream = await open(api(), `/v1/runs/${id}/events`);
    await vi.waitFor(() => expect(eventsOf(stream.text())).toHaveLength(1));
    await transition(api(), id, "queued");
    await vi.waitFor(() =>
      expect(eventsOf(stream.text()).at(-1)).toMatchObject({
        id: "2",
        event: "state.changed",
        data: { to: "queued", sequence: 2 },
      }),
    );
    await transition(api(), id, "cancelled");
    await stream.ended;
    expect(eventsOf(stream.text()).map(({ event }) => event)).toEqual([
      "state.changed",
      "state.changed",
      "state.changed",
      "end",
    ]);
  });

  test("a client that lost the connection goes on after its last event", async () => {
    const { id } = await api().submitRun();
    for (const to of ["queued", "scheduling", "failed"]) await transition(api(), id, to);
    const response = await api().send("GET", `/v1/runs/${id}/events`, { headers: { ...sse, "last-event-id": "2" } });
    expect(response.headers["content-type"]).toMatch(/^text\/event-stream/);
    expect(eventsOf(response.body).map(({ id: place }) => place)).toEqual(["3", "4", undefined]);
  });

  test("metrics are streamed with their sequence as id", async () => {
    const { id } = await api().submitRun();
    const metric = (step: number) => ({
      step,
      attempt: 1,
      time: "2026-01-01T00:00:00.000Z",
      loss: 1,
      learningRate: 1e-4,
      gradientNorm: 1,
      tokens: 1,
      seconds: 1,
      memoryBytes: 1,
    });
    await api().ok("POST", `/internal/v1/runs/${id}/reports`, {
      metrics: Array.from({ length: 700 }, (_, index) => metric(index + 1)),
    });
    await transition(api(), id, "cancelled");
    const events = eventsOf((await api().send("GET", `/v1/runs/${id}/metrics`, { headers: sse })).body);
    expect(events).toHaveLength(701);
    expect(events[699]).toMatchObject({ id: "700", event: "step.finished", data: { step: 700 } });
  });
});

const api = useApi(inMemory);

test("a stream that nobody reads any more is let go", async () => {
  const { id } = await api().submitRun();
  const stream = await open(api(), `/v1/runs/${id}/events`);
  await vi.waitFor(() => expect(stream.text()).toContain("validating"));
  stream.close();
  await stream.ended;
});

test("a log is read from its end, and followed from where a client was", async () => {
  const { id } = await api().submitRun();
  const key = `runs/${id}/attempts/1/rank-0.log`;
  expect(await api().refused("GET", `/v1/runs/${id}/logs`)).toMatchObject({ status: 404, code: "log_not_found" });
  await api().storage.put(key, "one\ntwo\nthree\n");
  expect(await api().ok("GET", `/v1/runs/${id}/logs?tail=2`)).toEqual({
    attempt: 1,
    lines: ["two", "three"],
    sizeBytes: 14,
  });
  const stream = await open(api(), `/v1/runs/${id}/logs?tail=1`);
  await vi.waitFor(() =>
    expect(eventsOf(stream.text()).map(({ data }) => data)).toEqual([{ attempt: 1, line: "three" }]),
  );
  await api().storage.put(key, "one\ntwo\nthree\nfour\nhalf");
  await transition(api(), id, "cancelled");
  await stream.ended;
  expect(eventsOf(stream.text()).map(({ id: place, event }) => [place, event])).toEqual([
    ["14", "log"],
    ["19", "log"],
    ["23", "log"],
    [undefined, "end"],
  ]);
  const rest = await api().send("GET", `/v1/runs/${id}/logs`, { headers: { ...sse, "last-event-id": "14" } });
  expect(eventsOf(rest.body).map(({ data }) => data)).toEqual([
    { attempt: 1, line: "four" },
    { attempt: 1, line: "half" },
    {},
  ]);
});

test("a log that is not followed ends at once", async () => {
  const { id } = await api().submitRun();
  await api().storage.put(`runs/${id}/attempts/1/rank-0.log`, "one\n");
  const response = await api().send("GET", `/v1/runs/${id}/logs?follow=false&tail=5`, { headers: sse });
  expect(eventsOf(response.body).map(({ event }) => event)).toEqual(["log", "end"]);
});
