import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { StoreBlockDevice } from "../../block/block-device.ts";
import { putLe32 } from "../../lib/bytes.ts";
import { realClock } from "../../lib/clock.ts";
import { MemoryStore } from "../../store/memory-store.ts";
import { type TuneChange, tuneExt } from "./tune.ts";

const hasTools = ["mke2fs", "dumpe2fs", "e2fsck"].every(requireTool);
const scratch = scratchDirectory("tune");
const UUID = Uint8Array.from({ length: 16 }, (_, at) => at + 1);
let count = 0;

function image(features: string): string {
  const args = ["-t", "ext4", "-b", "1024", "-O", features];
  return makeImage(scratch, `image-${count++}`, args, { sizeText: "16M" });
}

async function tune(path: string, change: TuneChange): Promise<void> {
  const bytes = new Uint8Array(readFileSync(path));
  const bdev = new StoreBlockDevice(new MemoryStore(bytes), { clock: realClock });
  await tuneExt(bdev, change);
  await bdev.close();
  writeFileSync(path, bytes);
}

describe.skipIf(!hasTools)("label and UUID", () => {
  test.each([
    ["stable_inodes", "stable_inodes"],
    ["uninit_bg", "uninit_bg,^metadata_csum"],
    ["ea_inode", "ea_inode,^metadata_csum,^uninit_bg"],
  ])("a UUID that must stay stays: %s; the label may change", async (reason, features) => {
    const path = image(features);
    const before = readFileSync(path);
    await expect(tune(path, { uuid: UUID })).rejects.toThrow(reason);
    expect(Buffer.compare(readFileSync(path), before)).toBe(0);
    await tune(path, { label: "name" });
    expect(runTool("dumpe2fs", ["-h", path])).toMatch(/volume name: +name$/m);
    runTool("e2fsck", ["-fn", path]);
  });

  test("with metadata checksums large attributes keep their seed", async () => {
    const path = image("ea_inode");
    await tune(path, { uuid: UUID });
    const told = runTool("dumpe2fs", ["-h", path]);
    expect(told).toContain("metadata_csum_seed");
    expect(told).toContain("01020304-0506-0708-090a-0b0c0d0e0f10");
    runTool("e2fsck", ["-fn", path]);
  });

  test("what another machine may have mounted is left alone", async () => {
    const path = image("mmp,^has_journal");
    await tune(path, { label: "free" });
    const block = Number(/^MMP block number: +(\d+)$/m.exec(runTool("dumpe2fs", ["-h", path]))![1]);
    const bytes = new Uint8Array(readFileSync(path));
    putLe32(bytes, block * 1024 + 4, 77); // `mmp_seq`.
    const used = join(scratch, "used.img");
    writeFileSync(used, bytes);
    await expect(tune(used, { label: "taken" })).rejects.toMatchObject({ code: "EBUSY" });
    expect(Buffer.compare(readFileSync(used), bytes)).toBe(0);
  });
});
