/**
 * The file store on a real block device: a loop device of the kernel over a file.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Random } from "../../src/lib/random.ts";
import { SECTOR_BYTES } from "../../src/lib/units.ts";
import { searchEndBytes } from "../../src/store/device-size.ts";
import { openFileStore } from "../../src/store/file-store.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const canLoop = requireTool("losetup") && requireRoot("a loop device");
const scratch = scratchDirectory("block-device");
const content = new Random(1).bytes(1001 * SECTOR_BYTES);

async function withLoopDevice(
  body: (device: string, file: string) => Promise<void>,
): Promise<void> {
  const file = join(scratch, "disk.img");
  writeFileSync(file, content);
  const device = runTool("losetup", ["--find", "--show", file]).trim();
  try {
    await body(device, file);
  } finally {
    runTool("losetup", ["--detach", device]);
  }
}

describe.skipIf(!canLoop)("FileStore on a block device", () => {
  test("knows its size, reads and writes it", async () => {
    await withLoopDevice(async (device, file) => {
      const store = await openFileStore(device, { writable: true });
      expect(store.sizeBytes).toBe(content.length);
      const into = new Uint8Array(content.length);
      await store.read(0, into);
      expect(Buffer.from(into).equals(content)).toBe(true);
      await store.write(content.length - 3, new Uint8Array([1, 2, 3]), { fua: true });
      await store.close();
      expect([...readFileSync(file).subarray(-3)]).toEqual([1, 2, 3]);
    });
  });

  test("finds its end by reading, as where there is no /sys", async () => {
    await withLoopDevice(async (device) => {
      const handle = await open(device);
      const sector = new Uint8Array(SECTOR_BYTES);
      const end = await searchEndBytes(async (offsetBytes) => {
        return (await handle.read(sector, 0, SECTOR_BYTES, offsetBytes)).bytesRead > 0;
      });
      await handle.close();
      expect(end).toBe(content.length);
    });
  });

  test("refuses to write to a device that somebody else holds", async () => {
    await withLoopDevice(async (device) => {
      const first = await openFileStore(device, { writable: true });
      const second = openFileStore(device, { writable: true });
      await expect(second).rejects.toMatchObject({ code: "EBUSY" });
      await (await openFileStore(device)).close();
      await first.close();
    });
  });
});
