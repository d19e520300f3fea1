import { afterEach, expect, test } from "vitest";
import { RingListener } from "../collectives/ring-connect.ts";
import { StageLink } from "./stage-link.ts";

const opened: StageLink[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map(async (link) => await link.close()));
});

/** Two neighbours: rank 0, which waits, and rank 1, which calls. */
async function neighbours(token = "secret"): Promise<[StageLink, StageLink]> {
  const listener = await RingListener.open("127.0.0.1");
  const identity = (rank: number): { rank: number; worldSize: number; epoch: number; token: string } => ({
    rank,
    worldSize: 2,
    epoch: 1,
    token,
  });
  const links = await Promise.all([
    StageLink.accept(listener, identity(0), 1),
    StageLink.dial(listener.address, identity(1), 0),
  ]);
  listener.close();
  opened.push(...links);
  return links;
}

test("arrays arrive whole and in order, both ways at once, asked for or not", async () => {
  const [first, second] = await neighbours();
  first.send("forward", [Float32Array.of(1, 2), Float32Array.of(3)]);
  first.send("forward", [Float32Array.of(4)]);
  second.send("back", [new Float32Array(1_000_000).fill(5)]);
  expect(await second.receive("forward")).toEqual([Float32Array.of(1, 2), Float32Array.of(3)]);
  expect(await second.receive("forward")).toEqual([Float32Array.of(4)]);
  const [large] = await first.receive("back");
  expect(large?.length).toBe(1_000_000);
  expect(large?.every((value) => value === 5)).toBe(true);
});

test("who waits for a stage that has left is told which rank it was", async () => {
  const [first, second] = await neighbours();
  const waiting = second.receive("forward").catch((error: unknown) => error);
  await first.close();
  expect(await waiting).toMatchObject({ code: "peer_lost", lostRank: 0 });
  await expect(second.receive("forward")).rejects.toThrow("rank 0 was lost: it has left the pipeline");
  expect(() => second.send("back", [Float32Array.of(1)])).toThrow("rank 0 was lost");
});
