/** A loop device that is detached while its attributes are looked at is nobody's writer. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { scratchDirectory } from "../../test/support/tools.ts";
import { openFileStore } from "./file-store.ts";

const attributes = vi.hoisted(() => ({ read: 0 }));

vi.mock(import("node:fs/promises"), async (importOriginal) => {
  const original = await importOriginal();
  const readdir = async () => ["loop7"];
  const readFile = async (path: string, encoding: BufferEncoding) => {
    if (!path.startsWith("/sys/block/")) return original.readFile(path, encoding);
    attributes.read++;
    throw Object.assign(new Error("ENODEV: no such device, read"), { code: "ENODEV" });
  };
  return { ...original, readdir, readFile } as unknown as typeof original;
});

test.skipIf(process.platform !== "linux")("a loop device that goes is no writer", async () => {
  const path = join(scratchDirectory("file-claim-race"), "image");
  await writeFile(path, new Uint8Array(8192));
  const store = await openFileStore(path, { writable: true });
  expect(attributes.read).toBe(1);
  await store.close();
});
