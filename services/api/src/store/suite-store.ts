import { NotFoundError } from "@drydock/kit";
import type { EvaluationSuite, EvaluationSuiteSpec } from "@drydock/spec";
import { asc, desc, eq, inArray, lt } from "drizzle-orm";
import { describeSuite } from "../evaluations/describe-suite.ts";
import { decodeCursor, pageFrom, type Page } from "../pages.ts";
import type { Database } from "./database.ts";
import type { ListPage } from "./dataset-store.ts";
import { toEvaluation } from "./evaluation-store.ts";
import { evaluationSuites, evaluations } from "./schema.ts";

type SuiteRow = typeof evaluationSuites.$inferSelect;
type EvaluationRow = typeof evaluations.$inferSelect;

/** Evaluation suites. A suite has no state of its own: it is read from its evaluations. */
export class SuiteStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async insert(id: string, spec: EvaluationSuiteSpec): Promise<void> {
    await this.#database.insert(evaluationSuites).values({ id, name: spec.name, spec });
  }

  /** @throws NotFoundError `suite_not_found` */
  async get(id: string): Promise<EvaluationSuite> {
    const [row] = await this.#database.select().from(evaluationSuites).where(eq(evaluationSuites.id, id));
    if (row === undefined)
      throw new NotFoundError(
        "suite_not_found",
        `there is no evaluation suite "${id}": list them with GET /v1/evaluation-suites`,
      );
    const [suite] = await this.#describe([row]);
    return suite!;
  }

  async list(page: ListPage): Promise<Page<EvaluationSuite>> {
    const before = decodeCursor(page.cursor);
    const rows = await this.#database
      .select()
      .from(evaluationSuites)
      .where(before === null ? undefined : lt(evaluationSuites.id, before))
      .orderBy(desc(evaluationSuites.id))
      .limit(page.limit + 1);
    const suites = new Map((await this.#describe(rows.slice(0, page.limit))).map((suite) => [suite.id, suite]));
    return pageFrom(
      rows,
      page.limit,
      (row) => suites.get(row.id)!,
      (row) => row.id,
    );
  }

  async #describe(rows: readonly SuiteRow[]): Promise<EvaluationSuite[]> {
    if (rows.length === 0) return [];
    const ids = rows.map(({ id }) => id);
    const found = await this.#database
      .select()
      .from(evaluations)
      .where(inArray(evaluations.suiteId, ids))
      .orderBy(asc(evaluations.id));
    return rows.map((row) =>
      toSuite(
        row,
        found.filter(({ suiteId }) => suiteId === row.id),
      ),
    );
  }
}

function toSuite({ id, name, spec, createdAt, updatedAt }: SuiteRow, own: readonly EvaluationRow[]): EvaluationSuite {
  const newest = Math.max(updatedAt.getTime(), ...own.map((row) => row.updatedAt.getTime()));
  const place = ({ spec: { model, dataset } }: EvaluationRow): number =>
    spec.models.findIndex((other) => JSON.stringify(other) === JSON.stringify(model)) * spec.datasets.length +
    spec.datasets.indexOf(dataset);
  const ordered = own.toSorted((first, second) => place(first) - place(second));
  return {
    id,
    name,
    spec,
    ...describeSuite(spec, ordered.map(toEvaluation)),
    createdAt: createdAt.toISOString(),
    updatedAt: new Date(newest).toISOString(),
  };
}
