/**
 * The overlay of a journal, read in every alignment, against a model that has the bytes in one
 * array.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RecordingDevice } from "../../../test/support/recording-device.ts";
import { runs } from "../../../test/support/runs.ts";
import { Bio, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE } from "../../block/bio.ts";
import { readDevice, StoreBlockDevice } from "../../block/block-device.ts";
import { Plug } from "../../block/plug.ts";
import { putBe32 } from "../../lib/bytes.ts";
import { realClock } from "../../lib/clock.ts";
import { EIO, EROFS } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { MemoryStore } from "../../store/memory-store.ts";
import { JBD2_MAGIC } from "./jbd2-format.ts";
import { JournalOverlayDevice, type ReplayedBlock } from "./journal-device.ts";

const BLOCK = 1024;
const HOMES = 24;
const LOG_AT = 32;
const DEVICE_BLOCKS = 64;

interface World {
  readonly overlay: JournalOverlayDevice;
  readonly base: StoreBlockDevice;
  /** What a read is to give. */
  readonly model: Uint8Array;
}

function makeWorld(blocks: readonly ReplayedBlock[], superblock?: Uint8Array): World {
  const bytes = new Random(1).bytes(DEVICE_BLOCKS * BLOCK);
  const model = bytes.slice();
  for (const { home, copy, isEscaped } of blocks) {
    model.set(bytes.subarray(copy * BLOCK, (copy + 1) * BLOCK), home * BLOCK);
    if (isEscaped) putBe32(model, home * BLOCK, JBD2_MAGIC);
  }
  const base = new StoreBlockDevice(new MemoryStore(bytes), { clock: realClock });
  const overlay = new JournalOverlayDevice(base, blocks, {
    blockBytes: BLOCK,
    journalDevice: base,
    clock: realClock,
  });
  if (superblock !== undefined) {
    overlay.patchSuperblock(superblock);
    model.set(superblock, 1024);
  }
  return { overlay, base, model };
}

/** Reads through one bio whose memory is in pieces of the given lengths. */
function readPieces(
  overlay: JournalOverlayDevice,
  offsetBytes: number,
  lengths: readonly number[],
  plug?: Plug,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const bio = new Bio(REQ_OP_READ, 0, offsetBytes, ({ status, vectors }) => {
      if (status === 0) resolve(Buffer.concat(vectors));
      else reject(new Error(`status ${status}`));
    });
    for (const length of lengths) bio.addVector(new Uint8Array(length));
    overlay.submitBio(bio, plug);
    plug?.flush();
  });
}

describe("JournalOverlayDevice", () => {
  test("reads as one array of bytes does, whatever the range and the pieces of memory", async () => {
    const replayed = fc.uniqueArray(
      fc.record({
        home: fc.nat(HOMES - 1),
        copy: fc.integer({ min: LOG_AT, max: DEVICE_BLOCKS - 1 }),
        isEscaped: fc.boolean(),
      }),
      { selector: ({ home }) => home, maxLength: HOMES, size: "max" },
    );
    const lengths = fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 8 });
    const property = fc.asyncProperty(
      replayed,
      fc.nat(HOMES * BLOCK),
      lengths,
      fc.boolean(),
      async (blocks, offset, pieces, isPlugged) => {
        const { overlay, model } = makeWorld(blocks, new Uint8Array(1024).fill(0x53));
        const found = await readPieces(overlay, offset, pieces, isPlugged ? new Plug() : undefined);
        const wanted = model.subarray(offset, offset + found.length);
        expect(Buffer.compare(found, wanted)).toBe(0);
      },
    );
    await fc.assert(property, { numRuns: runs(150) });
  });

  test("a read without replayed blocks is handed on as the bio that came", () => {
    const { base } = makeWorld([]);
    const recording = new RecordingDevice(base, BLOCK);
    const overlay = new JournalOverlayDevice(recording, [{ home: 5, copy: 40, isEscaped: true }], {
      blockBytes: BLOCK,
      journalDevice: base,
      clock: realClock,
    });
    const bio = new Bio(REQ_OP_READ, 0, 6 * BLOCK, () => undefined);
    bio.addVector(new Uint8Array(8 * BLOCK));
    overlay.submitBio(bio);
    expect(recording.events).toEqual(["R[6-13]"]);
  });

  test("copies that lie side by side are read in one piece", async () => {
    const blocks = [0, 1, 2, 3].map((n) => ({ home: 8 + n, copy: 40 + n, isEscaped: n === 2 }));
    const { overlay, base, model } = makeWorld(blocks);
    const lengths: number[] = [];
    base.log = ({ lengthBytes }) => lengths.push(lengthBytes / BLOCK);
    const found = await readDevice(overlay, 6 * BLOCK, 8 * BLOCK);
    expect(Buffer.compare(found, model.subarray(6 * BLOCK, 14 * BLOCK))).toBe(0);
    expect(lengths).toEqual([2, 2, 4]);
  });

  test("copies on a device of their own are read there, also at the same place", async () => {
    const { base, model } = makeWorld([]);
    const own = new StoreBlockDevice(new MemoryStore(new Uint8Array(16 * BLOCK).fill(7)), {
      clock: realClock,
    });
    const overlay = new JournalOverlayDevice(base, [{ home: 5, copy: 5, isEscaped: false }], {
      blockBytes: BLOCK,
      journalDevice: own,
      clock: realClock,
    });
    const wanted = model.slice(4 * BLOCK, 7 * BLOCK).fill(7, BLOCK, 2 * BLOCK);
    expect(Buffer.compare(await readDevice(overlay, 4 * BLOCK, 3 * BLOCK), wanted)).toBe(0);
  });

  test("a failed part fails the whole read, once, and past the end it is EIO", async () => {
    const { overlay } = makeWorld([{ home: 5, copy: DEVICE_BLOCKS + 9, isEscaped: false }]);
    const read = readPieces(overlay, 4 * BLOCK, [3 * BLOCK]);
    await expect(read).rejects.toThrow(`status ${-EIO}`);
    const past = readPieces(overlay, (DEVICE_BLOCKS - 1) * BLOCK, [2 * BLOCK]);
    await expect(past).rejects.toThrow(`status ${-EIO}`);
  });

  test("writes end with EROFS after submitBio has returned, flushes go through", async () => {
    const { overlay } = makeWorld([]);
    for (const [op, wanted] of [
      [REQ_OP_WRITE, -EROFS],
      [REQ_OP_FLUSH, 0],
    ] as const) {
      let status: number | undefined;
      await new Promise<void>((resolve) => {
        const bio = new Bio(op, 0, 0, (ended) => {
          status = ended.status;
          resolve();
        });
        if (op === REQ_OP_WRITE) bio.addVector(new Uint8Array(BLOCK));
        overlay.submitBio(bio);
        expect(status).toBeUndefined();
      });
      expect(status).toBe(wanted);
    }
  });
});
