import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["packages/**/*.test.ts", "services/**/*.test.ts", "workflows/**/*.test.ts", "proto/**/*.test.ts", "test/**/*.test.ts"],
    exclude: ["**/node_modules/**", "**/.drydock/**", "**/.cache/**"],
    pool: "forks",
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
