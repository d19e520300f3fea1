import {
  AcceleratorCapacity,
  ClusterNode,
  PageQuery,
  pageOf,
  Timestamp,
  type ClusterReport,
  type OpenWork,
} from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { decodeCursor, pageFrom } from "../pages.ts";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";

const reportedAt = Timestamp.nullable().meta({
  description: "When the controller last said what the cluster has; null before the first time",
});

/** `/v1/nodes`, `/v1/capacity`: what the cluster has, and what of it is free. */
export const clusterRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  app.get(
    "/nodes",
    {
      schema: {
        operationId: "listNodes",
        summary: "Nodes by name: accelerators, free GPUs, taints, and why nothing is started on a node",
        description: "On a computer without GPUs there is one node, and its `gpus` are its worker slots.",
        tags: ["cluster"],
        querystring: PageQuery.extend({ accelerator: z.string().max(100).optional() }),
        response: { 200: pageOf(ClusterNode).extend({ reportedAt }), ...problems() },
      },
    },
    async (request) => {
      const { limit, cursor, accelerator } = request.query;
      const stored = await services.cluster.report();
      const after = decodeCursor(cursor);
      const nodes = (stored?.report.nodes ?? [])
        .filter((node) => accelerator === undefined || node.accelerator === accelerator)
        .filter(({ name }) => after === null || name > after)
        .toSorted((a, b) => (a.name < b.name ? -1 : 1));
      const page = pageFrom(
        nodes.slice(0, limit + 1),
        limit,
        (node) => node,
        ({ name }) => name,
      );
      return { ...page, reportedAt: stored?.receivedAt.toISOString() ?? null };
    },
  );

  app.get(
    "/capacity",
    {
      schema: {
        operationId: "listCapacity",
        summary: "GPUs by accelerator: how many there are, how many are free, how many are waited for",
        tags: ["cluster"],
        response: { 200: z.object({ items: z.array(AcceleratorCapacity), reportedAt }), ...problems() },
      },
    },
    async () => {
      const { cluster, input, reportedAt: time } = await services.forecasts.current();
      return { items: capacityOf(cluster?.nodes ?? [], input.waiting), reportedAt: time?.toISOString() ?? null };
    },
  );
};

function capacityOf(nodes: ClusterReport["nodes"], waiting: readonly OpenWork[]): AcceleratorCapacity[] {
  const names = new Set([
    ...nodes.flatMap((node) => node.accelerator ?? []),
    ...waiting.map((work) => work.accelerator),
  ]);
  return [...names].toSorted().map((accelerator) => {
    const having = nodes.filter((node) => node.accelerator === accelerator);
    const usable = having.filter((node) => node.unusable === null);
    const wanting = waiting.filter((work) => work.accelerator === accelerator);
    return {
      accelerator,
      nodes: having.length,
      usableNodes: usable.length,
      gpus: {
        total: sum(having.map(({ gpus }) => gpus.total)),
        usable: sum(usable.map(({ gpus }) => gpus.total)),
        free: sum(usable.map(({ gpus }) => gpus.free)),
        freeOnOneNode: Math.max(0, ...usable.map(({ gpus }) => gpus.free)),
        heldByOthers: sum(usable.map(({ heldByOthers }) => heldByOthers)),
      },
      waiting: { runs: wanting.length, gpus: sum(wanting.map(({ pods, gpusPerPod }) => pods * gpusPerPod)) },
    };
  });
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
