import { expect, test } from "vitest";
import { CachedFile } from "../../test/support/cached-file.ts";
import { EIO, EUCLEAN, FsError } from "../lib/errno.ts";
import { KIB, PAGE_BYTES } from "../lib/units.ts";
import { attachBlockState } from "./block-state.ts";
import type { Folio } from "./folio.ts";

test("a failed call does not take a lock away that has passed to somebody else", async () => {
  const fixture = new CachedFile({ sizeBytes: PAGE_BYTES, raPages: 0 });
  let others: Promise<void> | undefined;
  let seen: Folio | undefined;
  fixture.script.onReadFolio = (folio) => {
    seen = folio;
    others = Promise.resolve(folio.lock());
    folio.endRead(false); // Ends its own read, which hands the lock over, and fails only then.
    throw new FsError("EUCLEAN");
  };
  const reading = fixture.readPages(0);
  await others;
  expect(seen?.isLocked).toBe(true);
  seen?.unlock();
  expect(await reading).toBe(-EUCLEAN);
});

test("a folio of which a part is in flight stays locked until that completes", async () => {
  const fixture = new CachedFile({ sizeBytes: PAGE_BYTES, raPages: 0 });
  let complete = () => {};
  fixture.script.onReadFolio = (folio) => {
    const state = attachBlockState(folio, KIB);
    state.readPendingBytes = KIB;
    complete = () => {
      state.readPendingBytes = 0;
      folio.endRead(false);
    };
    return Promise.reject(new Error("the second part has no place"));
  };
  const reading = fixture.readPages(0);
  await fixture.clock.turn();
  expect(fixture.folio(0).isLocked).toBe(true);
  complete();
  expect(await reading).toBe(-EIO);
});

test("the invalidate lock is given back after a read of one folio, good or bad", async () => {
  const fixture = new CachedFile({ sizeBytes: PAGE_BYTES, raPages: 0 });
  const { invalidateLock } = fixture.mapping;
  fixture.script.failures.set(0, 1);
  for (const result of [-EIO, PAGE_BYTES]) {
    expect(await fixture.readPages(0)).toBe(result);
    expect(invalidateLock.readerCount).toBe(0);
  }
});
