export { buildApp, type App } from "./app.ts";
export { apiConfigOf, type ApiConfig } from "./config.ts";
export type { ServiceOptions } from "./services.ts";
export type { Workflows } from "./workflows/workflows.ts";
