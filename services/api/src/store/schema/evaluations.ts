import type { Evaluation, EvaluationDetails, EvaluationSpec, EvaluationSuiteSpec, Scores } from "@drydock/spec";
import { doublePrecision, index, integer, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import { createdAt, updatedAt } from "./columns.ts";

/** Several models times several data-set versions; each pair is an evaluation of its own. */
export const evaluationSuites = pgTable("evaluation_suites", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  spec: jsonb("spec").$type<EvaluationSuiteSpec>().notNull(),
  createdAt: createdAt(),
  updatedAt: updatedAt(),
});

export const evaluations = pgTable(
  "evaluations",
  {
    id: text("id").primaryKey(),
    runId: text("run_id"),
    suiteId: text("suite_id").references(() => evaluationSuites.id),
    phase: text("phase").$type<"before" | "during" | "after" | "standalone">().notNull(),
    step: integer("step"),
    state: text("state").$type<Evaluation["state"]>().notNull(),
    message: text("message").notNull(),
    spec: jsonb("spec").$type<EvaluationSpec>().notNull(),
    scores: jsonb("scores").$type<Scores>(),
    samples: integer("samples").notNull(),
    seconds: doublePrecision("seconds"),
    resultsKey: text("results_key"),
    /** Confidence intervals and scores by slice. */
    details: jsonb("details").$type<EvaluationDetails>(),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [index("evaluations_run").on(table.runId, table.id), index("evaluations_suite").on(table.suiteId)],
);
