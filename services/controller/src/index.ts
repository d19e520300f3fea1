export type { ClusterBackend, Pod, PodEnd, PodSpec } from "./backend/cluster-backend.ts";
export { readConfig, type ControllerConfig } from "./config.ts";
