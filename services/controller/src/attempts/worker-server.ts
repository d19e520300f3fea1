import { createServer, type Server } from "node:http";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Code, ConnectError } from "@connectrpc/connect";
import { isDrydockError, messageOf, type Logger } from "@drydock/kit";
import { WorkerService } from "@drydock/proto";
import type { AttemptRegistry } from "./attempt-registry.ts";

/** Serves the worker protocol on one address of this machine. Answers the port. */
export async function serveWorkers(
  registry: AttemptRegistry,
  port: number,
  logger: Logger,
  host = "127.0.0.1",
): Promise<{ server: Server; port: number }> {
  const handler = connectNodeAdapter({
    routes: (router) => {
      router.service(WorkerService, {
        join: async (request) => await registry.join(request, Date.now()),
        report: async (request) => {
          try {
            return await registry.report(request, Date.now());
          } catch (error) {
            throw refusalOf(error, logger);
          }
        },
      });
    },
  });
  const server = createServer(handler);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  const address = server.address();
  return { server, port: typeof address === "object" && address ? address.port : port };
}

/** What could not be stored is asked for again; the worker keeps it until then. */
function refusalOf(error: unknown, logger: Logger): ConnectError {
  if (error instanceof ConnectError) return error;
  if (!isDrydockError(error) || !error.isRetryable) logger.error({ err: error }, "report cannot be stored");
  return new ConnectError(messageOf(error), Code.Unavailable);
}
