import { expect, test } from "vitest";
import { StoreBlockDevice } from "../../block/block-device.ts";
import { filemapRead } from "../../cache/filemap.ts";
import { PageCache } from "../../cache/page-cache.ts";
import { VirtualClock } from "../../lib/clock.ts";
import { Random } from "../../lib/random.ts";
import { FILE_BYTES_MAX, MIB } from "../../lib/units.ts";
import { MemoryStore } from "../../store/memory-store.ts";
import { RawVolume } from "./raw-volume.ts";

function rawOf(store: MemoryStore): RawVolume {
  const clock = new VirtualClock();
  return new RawVolume(
    new PageCache({ clock, arenaBytes: 4 * MIB }),
    new StoreBlockDevice(store, { clock }),
  );
}

test("a device that ends within a page is read up to its last byte", async () => {
  const bytes = new Random(3).bytes(3 * 4096 + 700);
  const volume = rawOf(new MemoryStore(bytes));
  const into = new Uint8Array(2 * bytes.length);
  const count = await filemapRead({ file: volume.open(), posBytes: 0, flags: 0 }, into);
  expect(count).toBe(bytes.length);
  expect(into.subarray(0, count)).toEqual(bytes);
  await volume.close();
});

test("a device longer than the cache reaches is refused, not cut", () => {
  const store = new MemoryStore(4096);
  Object.defineProperty(store, "sizeBytes", { value: FILE_BYTES_MAX + 1 });
  expect(() => rawOf(store)).toThrow(/EFBIG/);
});
