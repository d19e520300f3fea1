import { accelerators, catalogue, countParameters } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";

const CatalogueModel = z
  .object({
    name: z.string(),
    title: z.string(),
    family: z.string(),
    repository: z.string().nullable(),
    license: z.string(),
    parameters: z.number(),
    contextWindow: z.int(),
    modes: z.array(z.enum(["lora", "full"])),
    modeRefusal: z.string().nullable(),
    provenance: z.object({ level: z.string(), note: z.string() }),
  })
  .meta({ id: "CatalogueModel" });

const CatalogueAccelerator = z
  .object({
    name: z.string(),
    title: z.string(),
    kind: z.enum(["gpu", "cpu"]),
    memoryBytes: z.number(),
    devicesPerNode: z.int(),
    pricePerHour: z.object({ amount: z.number(), currency: z.string(), isAssumption: z.boolean() }).nullable(),
    isHere: z.boolean().meta({ description: "Runs may be submitted for it" }),
    maxDevices: z.int().nullable().meta({ description: "The most that one run may hold; null when not known" }),
  })
  .meta({ id: "CatalogueAccelerator" });

/** `/v1/catalogue`: base models that may be fine-tuned, and accelerators that may be planned for. */
export const catalogueRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  app.get(
    "/catalogue/models",
    {
      schema: {
        operationId: "listCatalogueModels",
        summary: "Base models by name",
        tags: ["catalogue"],
        response: { 200: z.object({ items: z.array(CatalogueModel) }), ...problems() },
      },
    },
    async () => {
      const shipped = await services.modelDirectory.shipped();
      const items = [...(shipped === undefined ? [] : [shipped]), ...catalogue].map(({ modes, ...facts }) => ({
        ...facts,
        modes: [...modes],
        parameters: countParameters(facts.architecture).total,
      }));
      return { items };
    },
  );

  app.get(
    "/catalogue/accelerators",
    {
      schema: {
        operationId: "listAccelerators",
        summary: "Accelerators by name, and whether they are here",
        tags: ["catalogue"],
        response: { 200: z.object({ items: z.array(CatalogueAccelerator) }), ...problems() },
      },
    },
    async () => {
      const { supply } = services;
      const items = accelerators.map((known) => {
        const here = supply?.find((entry) => entry.accelerator.name === known.name);
        return {
          ...known,
          ...here?.accelerator,
          isHere: supply === undefined || here !== undefined,
          maxDevices: here?.maxDevices ?? null,
        };
      });
      return { items };
    },
  );
};
