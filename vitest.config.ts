import { defineConfig } from "vitest/config";

const exclude = ["**/node_modules/**", "**/.drydock/**", "**/.cache/**"];
const unitTests = ["packages", "services", "workflows", "proto", "demo"].map((folder) => `${folder}/**/*.test.ts`);

export default defineConfig({
  test: {
    reporters: ["default", "./test/support/closing-line-reporter.ts"],
    projects: [
      {
        test: {
          name: "unit",
          pool: "forks",
          include: [...unitTests, "test/*.test.ts", "test/golden/**/*.test.ts"],
          exclude,
          testTimeout: 60_000,
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
    ],
  },
});
