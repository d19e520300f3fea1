import type { Statistics } from "../statistics/statistics.ts";
import type { ObservationStore } from "../store/observation-store.ts";
import type { LiveScore, LiveScoreQuestion } from "./live-score.ts";

const rereadMs = 60_000;
const mostKept = 100;

export interface LiveScoresOptions {
  readonly observations: ObservationStore;
  readonly statistics: Statistics;
}

/** Live scores, made anew when there are new answers and once a minute: a step that watches asks every second, for days. */
export class LiveScores {
  readonly #options: LiveScoresOptions;
  /** By question, what was known when it was answered last. */
  readonly #kept = new Map<string, { readonly mark: string; readonly score: LiveScore }>();

  constructor(options: LiveScoresOptions) {
    this.#options = options;
  }

  async since(
    { name, version }: { readonly name: string; readonly version: number },
    since: Date,
    question: LiveScoreQuestion,
  ): Promise<LiveScore> {
    const { observations, statistics } = this.#options;
    const key = JSON.stringify([name, version, since, question]);
    const mark = `${await observations.newest(name)}/${Math.floor(Date.now() / rereadMs)}`;
    const kept = this.#kept.get(key);
    if (kept?.mark === mark) return kept.score;
    const observed = await observations.since({ name, version }, since);
    const score = await statistics.score({ observed, question });
    if (this.#kept.size >= mostKept) this.#kept.clear();
    this.#kept.set(key, { mark, score });
    return score;
  }
}
