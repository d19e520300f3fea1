export type { ClusterBackend, Gang, GangEnd, GangSpec, Placement, RankEnd } from "./backend/cluster-backend.ts";
export { readConfig, type ControllerConfig } from "./config.ts";
