/** Acceptance cases of section 12.4: write errors, set by hand here, reach every open file once. */
import { expect, test } from "vitest";
import { fileCheckAndAdvanceWbErr, openCacheFile } from "../../../src/cache/cache-file.ts";
import { EIO, ENOSPC } from "../../../src/lib/errno.ts";
import { PAGE_BYTES } from "../../../src/lib/units.ts";
import { CachedFile } from "../../support/cached-file.ts";

test("W41 a file opened after an error that nobody has seen is told of it, as are the others", () => {
  const { mapping, file: a } = new CachedFile({ sizeBytes: PAGE_BYTES });
  mapping.wbErr.set(-EIO);
  const c = openCacheFile(mapping);
  expect(fileCheckAndAdvanceWbErr(c)).toBe(-EIO);
  expect(fileCheckAndAdvanceWbErr(a)).toBe(-EIO);
  expect(fileCheckAndAdvanceWbErr(a)).toBe(0);
});

test("W42 a file opened after the error was seen is not told of it", () => {
  const { mapping, file: a } = new CachedFile({ sizeBytes: PAGE_BYTES });
  const b = openCacheFile(mapping);
  mapping.wbErr.set(-EIO);
  expect(fileCheckAndAdvanceWbErr(a)).toBe(-EIO);
  const d = openCacheFile(mapping);
  expect(fileCheckAndAdvanceWbErr(d)).toBe(0);
  expect(fileCheckAndAdvanceWbErr(b)).toBe(-EIO);
});

test("W43 two descriptors of one open file share its report", () => {
  const { mapping, file } = new CachedFile({ sizeBytes: PAGE_BYTES });
  const [descriptor, duplicate] = [file, file];
  mapping.wbErr.set(-EIO);
  expect(fileCheckAndAdvanceWbErr(descriptor)).toBe(-EIO);
  expect(fileCheckAndAdvanceWbErr(duplicate)).toBe(0);
});

test("W46 of two errors that nobody has seen the last one is reported, once", () => {
  const { mapping, file } = new CachedFile({ sizeBytes: PAGE_BYTES });
  mapping.wbErr.set(-EIO);
  mapping.wbErr.set(-ENOSPC);
  mapping.flagEIO = true;
  mapping.flagENOSPC = true;
  expect(fileCheckAndAdvanceWbErr(file)).toBe(-ENOSPC);
  expect(fileCheckAndAdvanceWbErr(file)).toBe(0);
  expect([mapping.flagEIO, mapping.flagENOSPC]).toEqual([false, false]);
});
