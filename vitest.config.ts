import { defineConfig } from "vitest/config";

const exclude = ["**/node_modules/**", "**/.drydock/**", "**/.cache/**"];
/** Tests of a package that need the shared cluster lie beside its source, too. */
const clusterTests = ["test/cluster/**/*.test.ts", "services/**/*.cluster.test.ts", "test/chaos/cluster*.test.ts"];
const unitTests = ["packages", "services", "workflows", "proto", "demo"].map((folder) => `${folder}/**/*.test.ts`);

export default defineConfig({
  test: {
    reporters: ["default", "./test/support/closing-line-reporter.ts"],
    projects: [
      {
        test: {
          name: "unit",
          pool: "forks",
          // Vitest leaves one core free, which of two is half.
          maxWorkers: 2,
          include: [...unitTests, "test/*.test.ts", "test/golden/**/*.test.ts"],
          exclude: [...exclude, ...clusterTests],
          // Tests that start six worker processes one after the other take more than a minute on a busy computer.
          testTimeout: 240_000,
          hookTimeout: 120_000,
        },
      },
      {
        // Starts whole servers, one file after the other: on two cores they would only slow each other down.
        test: {
          name: "e2e",
          pool: "forks",
          include: ["test/e2e/**/*.test.ts"],
          exclude,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // One Kubernetes cluster for all files, a namespace for each. Faults in its servers are everybody's: one file at a time.
        test: {
          name: "cluster",
          pool: "forks",
          include: clusterTests,
          exclude,
          globalSetup: ["test/cluster/global-setup.ts"],
          testTimeout: 120_000,
          hookTimeout: 300_000,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
      {
        // Breaks what runs and looks from outside at what must hold all the same. The table goes to .drydock/chaos/report.md.
        test: {
          name: "chaos",
          pool: "forks",
          include: ["test/chaos/**/*.test.ts"],
          exclude: [...exclude, ...clusterTests],
          testTimeout: 240_000,
          hookTimeout: 300_000,
          fileParallelism: false,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});
