import { spawn } from "node:child_process";
import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../../test/support/tools.ts";
import { openFileStore } from "./file-store.ts";

const scratch = scratchDirectory("file-claim");

async function makeFile(name: string): Promise<string> {
  const path = join(scratch, name);
  await writeFile(path, new Uint8Array(8192));
  return path;
}

describe("a claim on an image", () => {
  test("a second writer is refused with a sentence, a reader is not", async () => {
    const path = await makeFile("twice");
    const first = await openFileStore(path, { writable: true });
    await expect(openFileStore(path, { writable: true })).rejects.toMatchObject({
      code: "EBUSY",
      message: expect.stringContaining("it is open for writing elsewhere"),
    });
    await (await openFileStore(path)).close();
    await (await openFileStore(path, { writable: true, exclusive: false })).close();
    await first.close();
    await (await openFileStore(path, { writable: true })).close();
  });

  test("another name of the same file is the same file", async () => {
    const path = await makeFile("named");
    runTool("ln", [path, `${path}-too`]);
    const first = await openFileStore(path, { writable: true });
    await expect(openFileStore(`${path}-too`, { writable: true })).rejects.toMatchObject({
      code: "EBUSY",
    });
    await first.close();
  });

  test.skipIf(process.platform !== "linux")("a killed process claims nothing", async () => {
    const path = await makeFile("killed");
    const { dev, ino } = await stat(path, { bigint: true });
    const script = `require("net").createServer().listen("\\0quire:${dev}:${ino}", () => console.log("x"))`;
    const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    await expect(openFileStore(path, { writable: true })).rejects.toMatchObject({ code: "EBUSY" });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
    await (await openFileStore(path, { writable: true })).close();
  });

  const canLoop = requireRoot("loop devices") && requireTool("losetup");
  test.skipIf(!canLoop)("a loop device is a writer", async () => {
    const path = await makeFile("looped");
    const device = runTool("losetup", ["--find", "--show", path]).trim();
    try {
      await expect(openFileStore(path, { writable: true })).rejects.toMatchObject({
        code: "EBUSY",
        message: expect.stringContaining(device),
      });
    } finally {
      runTool("losetup", ["--detach", device]);
    }
  });
});
