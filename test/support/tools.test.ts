import { afterEach, expect, test, vi } from "vitest";
import { findTool, runTool } from "./tools.ts";

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  vi.resetModules();
});

/** The module as it is when CI is set to `value`. */
async function toolsUnder(value: string): Promise<typeof import("./tools.ts")> {
  vi.resetModules();
  vi.stubEnv("CI", value);
  return await import("./tools.ts");
}

test("a missing program is told once and skips, under CI it fails", async () => {
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  const { requireTool } = await toolsUnder("");
  expect([requireTool("no-such-oracle"), requireTool("no-such-oracle")]).toEqual([false, false]);
  expect(warn.mock.calls).toEqual([['skipped: the program "no-such-oracle" is not installed']]);
  const ci = await toolsUnder("true");
  expect(() => ci.requireTool("no-such-oracle")).toThrow("under CI that is a failure");
});

test("a program that fails throws with what it said, unless its code is expected", () => {
  expect(findTool("sh")).toBeDefined();
  expect(runTool("sh", ["-c", "cat; echo $LC_ALL"], { input: "in " })).toBe("in C.UTF-8\n");
  expect(() => runTool("sh", ["-c", "echo broken >&2; exit 3"])).toThrow(/exit 3\nbroken/);
  expect(runTool("sh", ["-c", "echo fixed; exit 1"], { okCodes: [1] })).toBe("fixed\n");
});
