import { expect, test } from "vitest";
import { codeVersion } from "./code-version.ts";

test("the version is the package's, with the commit where the build says one", () => {
  expect(codeVersion({})).toMatch(/^\d+\.\d+\.\d+$/);
  expect(codeVersion({ DRYDOCK_COMMIT: "3f2a9c1d4e5f60718293" })).toMatch(/^\d+\.\d+\.\d+\+3f2a9c1d4e5f$/);
  expect(codeVersion({ DRYDOCK_COMMIT: "" })).toMatch(/^\d+\.\d+\.\d+$/);
});
