import type { Reporter, TestCase, TestModule } from "vitest/node";

/**
 * Ends a test run with one plain line, `N passed, N failed`, after the names of all tests that failed or were skipped.
 * With `CI=true` a skipped test fails the run: a machine without a tool must not look green.
 */
export default class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const count = (state: string): number => tests.filter((test) => test.result().state === state).length;
    const skipped = tests.filter((test) => test.result().state === "skipped");
    for (const test of skipped) console.log(`skipped: ${nameOf(test)}`);
    // The end of a long log is what is read first: which tests failed, and with what.
    for (const test of tests.filter((each) => each.result().state === "failed"))
      console.log(`failed: ${nameOf(test)}: ${firstLineOf(test.result().errors)}`);
    for (const module of modules.filter((each) => each.errors().length > 0))
      console.log(`failed: ${module.relativeModuleId}: ${firstLineOf(module.errors())}`);
    const brokenModules = modules.filter((module) => module.state() === "failed" && module.errors().length > 0).length;
    if (skipped.length > 0 && process.env["CI"] === "true") {
      console.log("with CI=true a skipped test is a failure");
      process.exitCode = 1;
    }
    const tail = skipped.length > 0 ? `, ${skipped.length} skipped` : "";
    // Of several lanes the sum comes last (scripts/run-tests.ts).
    const lane = process.env["DRYDOCK_TEST_LANE"];
    const head = lane === undefined ? "" : `${lane}: `;
    console.log(`${head}${count("passed")} passed, ${count("failed") + brokenModules} failed${tail}`);
  }
}

function firstLineOf(errors: readonly { readonly message: string }[] | undefined): string {
  return errors?.[0]?.message.split("\n")[0] ?? "no message";
}

function nameOf(test: TestCase): string {
  return `${test.module.relativeModuleId}: ${test.fullName}`;
}
