import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { requireTool, runTool, scratchDirectory } from "../../test/support/tools.ts";
import { MIB } from "../lib/units.ts";
import { MemoryStore } from "../store/memory-store.ts";
import { checkVolume, makeVolume } from "./make-volume.ts";
import { openImage } from "./open-image.ts";

const hasTools = requireTool("e2fsck");
const scratch = scratchDirectory("make-volume");

describe("makeVolume and checkVolume", () => {
  test("what is made can be written, checked, and read by e2fsck", async () => {
    const bytes = new Uint8Array(16 * MIB);
    const store = new MemoryStore(bytes);
    await makeVolume(store, { type: "ext4", label: "made" });
    const volume = await openImage(new MemoryStore(bytes), { writable: true });
    const handle = await volume.fs.open("/file", "w");
    await handle.write("content");
    await handle.fallocate(1, 0, MIB);
    expect((await handle.stat()).size).toBe(7);
    expect((await handle.stat()).blocks).toBeGreaterThan(2000);
    await handle.close();
    await volume.close();
    const report = await checkVolume(store);
    expect(report).toMatchObject({ isClean: true, isComplete: true, damageCount: 0 });
    if (!hasTools) return;
    const path = join(scratch, "made.img");
    writeFileSync(path, bytes);
    expect(runTool("e2fsck", ["-fn", path])).toContain("Pass 5");
  });

  test("damage is in the report, and is no error", async () => {
    const store = new MemoryStore(8 * MIB);
    await makeVolume(store);
    store.bytes.fill(0xff, 1024 + 0x60, 1024 + 0x64);
    const report = await checkVolume(store);
    expect(report.isClean).toBe(false);
    expect(report.findings.length).toBeGreaterThan(0);
  });

  test("what cannot be made is told before anything is written", async () => {
    const store = new MemoryStore(8 * MIB);
    store.bytes.fill(7);
    await expect(makeVolume(store, { inodeBytes: 100 })).rejects.toMatchObject({ code: "EINVAL" });
    expect(store.bytes.every((byte) => byte === 7)).toBe(true);
  });
});
