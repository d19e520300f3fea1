import { expect, test, vi } from "vitest";
import type { ClusterBackend, Gang } from "../../services/controller/src/backend/cluster-backend.ts";

/** What a back end's test lends to the contract: ranks that wait until they are told how to end. */
export interface GangDriver {
  /** Starts a gang of so many ranks and waits until all of them run. A wish to stop ends a rank with 143. */
  start(ranks: number): Promise<Gang>;
  /** The same again under the same name, by any controller. */
  startAgain(backend: ClusterBackend, gang: Gang): Promise<Gang>;
  /** A back end as another controller has it. */
  another(): Promise<ClusterBackend>;
  end(gang: Gang, rank: number, exitCode: number): Promise<void>;
  /** Ranks that run, seen from outside. */
  alive(gang: Gang): Promise<number>;
}

/** What every back end promises, whatever a gang is made of. */
export function gangContract(driver: GangDriver): void {
  test("contract: a gang whose ranks are all done ends with 0", async () => {
    const gang = await driver.start(3);
    expect(await driver.alive(gang)).toBe(3);
    for (const rank of [2, 0, 1]) await driver.end(gang, rank, 0);
    const { cause, ranks } = await gang.ended;
    expect(cause).toMatchObject({ exitCode: 0, reason: "exited" });
    expect(ranks.map(({ rank, exitCode }) => [rank, exitCode])).toEqual([
      [0, 0],
      [1, 0],
      [2, 0],
    ]);
  });

  test("contract: a rank that ends badly takes the others with it, and is named as the cause", async () => {
    const gang = await driver.start(3);
    await driver.end(gang, 1, 65);
    const { cause, ranks } = await gang.ended;
    expect(cause).toMatchObject({ rank: 1, exitCode: 65 });
    expect(ranks).toHaveLength(3);
    await vi.waitFor(async () => expect(await driver.alive(gang)).toBe(0), { timeout: 10_000 });
  });

  test("contract: a wish to stop reaches every rank", async () => {
    const gang = await driver.start(2);
    gang.stop();
    expect((await gang.ended).cause).toMatchObject({ exitCode: 143 });
    expect(await driver.alive(gang)).toBe(0);
  });

  test("contract: a killed gang leaves nothing that runs", async () => {
    const gang = await driver.start(2);
    gang.kill();
    expect((await gang.ended).ranks).toHaveLength(2);
    await vi.waitFor(async () => expect(await driver.alive(gang)).toBe(0), { timeout: 10_000 });
  });

  test("contract: another controller finds the gang, and the same name starts no second one", async () => {
    const gang = await driver.start(2);
    const other = await driver.another();
    expect((await other.list()).map(({ name }) => name)).toContain(gang.name);
    expect((await other.find(gang.name))?.ranks).toBe(2);
    const again = await driver.startAgain(other, gang);
    expect(await driver.alive(again)).toBe(2);
    again.kill();
    expect((await again.ended).ranks).toHaveLength(2);
    await gang.ended;
    expect(await other.find("run_nobody-a1")).toBeNull();
  });
}
