import { execFile } from "node:child_process";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { apiKey, inMemory, useApi } from "./support/api.ts";
import { modelContents, registerModel } from "./support/registered-model.ts";

const program = join(import.meta.dirname, "../../cli/src/main.ts");

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

describe("drydock model …, against the api", () => {
  const api = useApi(inMemory);
  let url = "";
  beforeAll(async () => {
    url = await api().server.listen({ host: "127.0.0.1", port: 0 });
    for (const version of [1, 2, 3]) await registerModel(api(), { name: "weld", version });
  });

  async function drydock(...values: string[]): Promise<Ended> {
    const { promise, resolve } = Promise.withResolvers<Ended>();
    const env = { ...process.env, DRYDOCK_URL: url, DRYDOCK_API_KEY: apiKey };
    const child = execFile(
      process.execPath,
      ["--no-warnings", program, "model", ...values],
      { env },
      (_, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
    return await promise;
  }

  test("versions go to production and back, and the history says who and why", async () => {
    expect(await drydock("stage", "weld@1", "production", "--message", "First.")).toMatchObject({
      code: 0,
      stdout: "weld@1 is in stage production.\n",
    });
    expect((await drydock("stage", "weld@2", "production")).code).toBe(0);
    expect((await drydock("rollback", "weld", "--message", "Worse.")).stdout).toBe(
      "in production: weld@1\narchived:      weld@2\n",
    );
    const refused = await drydock("stage", "weld@2", "production");
    expect([refused.code, refused.stderr]).toEqual([
      64,
      expect.stringContaining("weld@2 is archived and cannot go to production at once: move it to staging first"),
    ]);
    expect((await drydock("history", "weld@production")).stdout).toContain(
      "weld@1 is back in production; weld@2 was there before. Worse.",
    );
  });

  test("aliases and notes", async () => {
    expect((await drydock("alias", "set", "weld@3", "line-4")).stdout).toBe("weld@line-4 means weld@3.\n");
    expect((await drydock("alias", "list", "weld")).stdout).toMatch(/line-4 +weld@3/);
    expect((await drydock("notes", "weld@line-4", "With the lamp on.")).stdout).toBe("With the lamp on.\n");
    expect((await drydock("notes", "weld@3")).stdout).toBe("With the lamp on.\n");
    expect((await drydock("alias", "remove", "weld", "line-4")).stdout).toBe("weld@line-4 is gone; weld@3 stays.\n");
    const taken = await drydock("alias", "set", "weld@3", "production");
    expect(taken.stderr).toContain('the alias "production" follows the stage');
    expect((await drydock("notes", "Weld@x")).stderr).toContain('"Weld@x" is not a name, name@version or name@alias');
  });

  test("versions beside each other", async () => {
    const { stdout } = await drydock("compare", "weld", "production", "3");
    expect(stdout).toMatch(/WELD@1 +WELD@3/);
    expect(stdout).toMatch(/f1@0\.5 +81\.00 +83\.00/);
    expect(await drydock("compare", "weld", "1")).toMatchObject({ code: 2 });
  });

  test("a model is verified; a damaged one ends with 64 and the file's name", async () => {
    const sound = await drydock("verify", "weld@production");
    expect([sound.code, sound.stdout]).toEqual([0, expect.stringMatching(/problems: +none/)]);
    const key = "models/weld/3/adapter_model.safetensors";
    await api().storage.put(key, "damaged");
    const damaged = await drydock("verify", "weld@3");
    expect([damaged.code, damaged.stderr]).toEqual([
      64,
      expect.stringContaining("adapter_model.safetensors of weld@3 is damaged: it has 7 bytes, and should have 700"),
    ]);
    await api().storage.put(key, modelContents["adapter_model.safetensors"]!);
    expect((await drydock("verify", "weld@3", "--sign")).code).toBe(0);
  });

  test("a retention rule is set, tried and applied", async () => {
    await registerModel(api(), { name: "weld", version: 4 });
    expect((await drydock("retention", "show", "weld")).code).toBe(4);
    const values = ["--keep-last", "1", "--minimum-age-days", "0", "--keep-best", "f1@0.5:1"];
    expect((await drydock("retention", "set", "weld", ...values)).stdout).toMatch(/keep best: +1 by f1@0\.5/);
    expect((await drydock("retention", "set", "weld", "--keep-stages", "attic")).stderr).toContain(
      '--keep-stages takes some of candidate, staging, production, archived, not "attic"',
    );
    const preview = await drydock("retention", "preview", "weld");
    expect(preview.stdout).toMatch(/weld@1 +keep .*in stage production; the alias "production" means it/);
    expect(preview.stdout).toContain("Would remove the files of 2 versions");
    expect((await drydock("retention", "apply", "weld")).stdout).toContain("Removed the files of 2 versions");
    expect((await drydock("list", "--name", "weld")).stdout).toMatch(/weld@2 +archived, files removed/);
  });
});
