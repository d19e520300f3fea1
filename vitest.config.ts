import { defineConfig } from "vitest/config";

const shared = { pool: "forks", testTimeout: 60_000, hookTimeout: 120_000, exclude: ["**/node_modules/**", "**/.drydock/**", "**/.cache/**"] } as const;

export default defineConfig({
  test: {
    reporters: ["default", "./test/support/closing-line-reporter.ts"],
    projects: [
      {
        test: {
          ...shared,
          name: "unit",
          include: ["packages/**/*.test.ts", "services/**/*.test.ts", "workflows/**/*.test.ts", "proto/**/*.test.ts", "demo/**/*.test.ts", "test/*.test.ts", "test/golden/**/*.test.ts"],
        },
      },
      // Starts whole servers, one file after the other: on two cores they would only slow each other down.
      { test: { ...shared, name: "e2e", include: ["test/e2e/**/*.test.ts"], testTimeout: 300_000, hookTimeout: 300_000, fileParallelism: false, sequence: { groupOrder: 1 } } },
    ],
  },
});
