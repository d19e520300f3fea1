import { expect, test } from "vitest";
import { closeAll } from "./close-all.ts";

test("what comes behind a fault is closed too, and the first fault is told", async () => {
  const closed: string[] = [];
  const close = (name: string, fault?: Error) => async (): Promise<void> => {
    closed.push(name);
    if (fault) throw fault;
  };
  const all = closeAll([close("a"), close("b", new Error("first")), null, close("c", new Error("second")), close("d")]);
  await expect(all).rejects.toThrow("first");
  expect(closed).toEqual(["a", "b", "c", "d"]);
});
