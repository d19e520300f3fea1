import { openPipeline, type Collective, type PipelineStage, type StageChannel } from "@drydock/engine";
import type { RankSettings } from "../commands/rank-environment.ts";
import { WatchedCollective, type WaitTeller } from "./watched-collective.ts";

/** Connects the stages of a pipeline; every rank calls it. */
export type OpenStages = (stages: number) => Promise<PipelineStage & { close(): Promise<void> }>;

/** Stages that tell when this rank waits for another one. */
export function watchedStages(
  { listenHost, epoch, token }: Pick<RankSettings, "listenHost" | "epoch" | "token">,
  collective: Collective,
  teller: WaitTeller,
): OpenStages {
  const watched = (channel: StageChannel | null): StageChannel | null =>
    channel && {
      send: (way, arrays) => channel.send(way, arrays),
      receive: async (way) => await teller.during(channel.receive(way)),
    };
  return async (stages) => {
    const pipeline = await openPipeline({ collective, stages, host: listenHost, epoch, token });
    const { stage, dataRank, sameStage, previous, next, ends } = pipeline;
    return {
      stage,
      stages,
      dataRank,
      sameStage: sameStage && new WatchedCollective(sameStage, teller),
      previous: watched(previous),
      next: watched(next),
      ends: watched(ends),
      close: async () => await pipeline.close(),
    };
  };
}
