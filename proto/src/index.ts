export {
  Directive,
  JoinResponseSchema,
  Phase,
  ReportRequestSchema,
  ReportResponseSchema,
  WorkerService,
  type JoinRequest,
  type JoinResponse,
  type ReportRequest,
  type ReportResponse,
} from "./generated/drydock/worker/v1/worker_pb.js";
