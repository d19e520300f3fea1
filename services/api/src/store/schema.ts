/** All tables. `npm run migrations --workspace @drydock/api` writes the migration of a change. */
export * from "./schema/access.ts";
export * from "./schema/datasets.ts";
export * from "./schema/evaluations.ts";
export * from "./schema/models.ts";
export * from "./schema/operations.ts";
export * from "./schema/pipelines.ts";
export * from "./schema/runs.ts";
export * from "./schema/sweeps.ts";
export * from "./schema/webhooks.ts";
