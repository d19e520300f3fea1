import { expect, test } from "vitest";
import { joinOf, stoppedShard } from "./evaluation-run.state.ts";

test("shards that were all answered are joined; the slowest says how long it took", () => {
  const answered = (seconds: number | null) => ({ failure: null, seconds });
  expect(joinOf([answered(3), answered(null), answered(5)])).toEqual({ failure: null, seconds: 5 });
  expect(joinOf([answered(null)])).toEqual({ failure: null, seconds: null });
});

test("the shard that failed by itself says why, not one that was stopped because of it", () => {
  expect(joinOf([stoppedShard, { failure: "out of memory", seconds: null }, { failure: null, seconds: 2 }])).toEqual({
    failure: "part 2 of 3: out of memory",
    seconds: null,
  });
});
