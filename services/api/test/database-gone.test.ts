import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { aSpec, useApi } from "./support/api.ts";
import { findPostgres, startPostgres, type TestPostgres } from "./support/postgres.ts";

const programs = findPostgres();
const isMissing = programs === null && process.env["CI"] !== "true";

describe.skipIf(isMissing)(
  `a PostgreSQL that goes away${isMissing ? " (no PostgreSQL found: install Debian's postgresql package, or run npm install)" : ""}`,
  () => {
    let postgres: TestPostgres | undefined;
    beforeAll(async () => {
      if (programs === null)
        throw new Error("no PostgreSQL found: install Debian's postgresql package, or run npm install");
      postgres = await startPostgres(programs);
    });
    const api = useApi(async () => ({ kind: "postgres", url: postgres!.url }));
    afterAll(async () => await postgres?.remove());

    test("requests are answered 503 while it is away, work again when it is back, and nothing is lost or doubled", async () => {
      const dataset = await api().readyDataset();
      const before = await api().submitRun({ dataset });
      await postgres!.stop();
      const away = await Promise.all(
        Array.from(
          { length: 10 },
          async (_, index) =>
            await api().send("POST", "/v1/runs", {
              body: aSpec({ dataset, name: `away-${index}` }),
              headers: { "idempotency-key": `away-${index}` },
            }),
        ),
      );
      for (const response of away) {
        expect(response.statusCode).toBe(503);
        expect(response.headers["retry-after"]).toBe("5");
        expect(response.json()).toMatchObject({ code: "database_unavailable" });
      }
      const readiness = await api().send("GET", "/readyz", { key: null });
      expect(readiness.statusCode).toBe(503);
      expect(
        readiness
          .json<{ dependencies: { name: string; isReady: boolean }[] }>()
          .dependencies.find(({ name }) => name === "database"),
      ).toMatchObject({ isReady: false });
      expect((await api().send("GET", "/healthz", { key: null })).statusCode).toBe(200);

      // More failures than the pool has connections: none may be lost.
      for (let round = 0; round < 4; round++) {
        await postgres!.start();
        await api().ok("GET", "/v1/runs");
        const broken = Array.from(
          { length: 16 },
          async (_, index) => await api().send("POST", "/v1/datasets", { body: { name: `r${round}-${index}` } }),
        );
        await Promise.all([...broken, postgres!.stop()]);
      }
      await postgres!.start();
      expect(await api().ok("GET", `/v1/runs/${before.id}`)).toMatchObject({ id: before.id });
      const again = await api().send("POST", "/v1/runs", {
        body: aSpec({ dataset, name: "away-0" }),
        headers: { "idempotency-key": "away-0" },
      });
      expect(again.statusCode).toBe(201);
      const { id } = again.json<{ id: string }>();
      await vi.waitFor(() => expect(api().workflows.started.map(({ workflowId }) => workflowId)).toContain(id));
      expect((await api().ok<{ items: unknown[] }>("GET", "/v1/runs?name=away-0")).items).toHaveLength(1);
    });
  },
);
