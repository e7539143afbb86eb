/** Checksums that are kept, combined and compared. */
import { crc32 } from 'node:zlib';
import type { ChecksumAlgorithm, ChecksumType } from '@aws-sdk/client-s3';
import { createHasher } from '../../sim/s3/checksums.ts';
import { type Check, CONTENT, FIVE_MIB, REST, SIX_MIB, type Trial } from '../trial.ts';

const crc32Of = (bytes: Buffer) => {
  const value = Buffer.alloc(4);
  value.writeUInt32BE(crc32(bytes));
  return value.toString('base64');
};

const crc64Of = (bytes: Buffer) => {
  const hasher = createHasher('CRC64NVME');
  hasher.update(bytes);
  return hasher.digest().toString('base64');
};

interface Whole {
  algorithm: ChecksumAlgorithm;
  field: 'ChecksumCRC32' | 'ChecksumCRC64NVME';
  parts: readonly (Buffer | { copy: string; range: string })[];
  /** Sent with Complete. */
  declared?: string;
  size?: number;
}

/** An upload whose checksum is asked for as one of the whole object; returns what HEAD says in the end. */
async function uploadWhole(t: Trial, name: string, whole: Whole): Promise<string | undefined> {
  const target = { Bucket: t.bucket, Key: t.key(name) };
  const { algorithm, field } = whole;
  const ChecksumType: ChecksumType = 'FULL_OBJECT';
  const begun = await t.s3.createMultipartUpload({
    ...target,
    ChecksumAlgorithm: algorithm,
    ChecksumType,
  });
  t.note('echoed', `${begun.ChecksumAlgorithm} ${begun.ChecksumType}`);
  const { UploadId } = begun;
  const Parts: object[] = [];
  for (const part of whole.parts) {
    const where = { ...target, UploadId, PartNumber: Parts.length + 1 };
    const result = Buffer.isBuffer(part)
      ? await t.s3.uploadPart({ ...where, Body: part, ChecksumAlgorithm: algorithm })
      : (
          await t.s3.uploadPartCopy({
            ...where,
            CopySource: part.copy,
            CopySourceRange: part.range,
          })
        ).CopyPartResult;
    Parts.push({ PartNumber: where.PartNumber, ETag: result?.ETag, [field]: result?.[field] });
  }
  await t.answer(
    'complete',
    t.s3.completeMultipartUpload({
      ...target,
      UploadId,
      ChecksumType,
      MultipartUpload: { Parts },
      ...(whole.declared !== undefined && { [field]: whole.declared }),
      ...(whole.size !== undefined && { MpuObjectSize: whole.size }),
    }),
  );
  const head = await t.answer('head', t.s3.headObject({ ...target, ChecksumMode: 'ENABLED' }));
  t.note('type', head?.ChecksumType);
  return head?.[field];
}

export const CHECKSUM_CHECKS: readonly Check[] = [
  {
    name: 'checksum: a put with CRC64NVME keeps it',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const ChecksumAlgorithm = 'CRC64NVME';
      await t.answer('put', t.s3.putObject({ ...target, Body: REST, ChecksumAlgorithm }));
      const head = await t.s3.headObject({ ...target, ChecksumMode: 'ENABLED' });
      t.note('kept', head.ChecksumCRC64NVME === crc64Of(REST));
    },
  },
  ...(
    [
      ['CRC32', 'ChecksumCRC32', crc32Of],
      ['CRC64NVME', 'ChecksumCRC64NVME', crc64Of],
    ] as const
  ).flatMap(([algorithm, field, of]): Check[] => [
    {
      name: `checksum: ${algorithm} of a whole upload`,
      run: async (t) => {
        const parts = [FIVE_MIB, SIX_MIB, REST];
        const declared = of(CONTENT);
        const kept = await uploadWhole(t, 'a', { algorithm, field, parts, declared });
        t.note('right', kept === declared);
      },
    },
    {
      name: `checksum: a wrong ${algorithm} of a whole upload`,
      run: async (t) => {
        const declared = of(REST);
        await uploadWhole(t, 'a', { algorithm, field, parts: [FIVE_MIB], declared });
      },
    },
    {
      name: `checksum: ${algorithm} of an upload with copied parts`,
      run: async (t) => {
        await t.s3.putObject({ Bucket: t.bucket, Key: t.key('source'), Body: CONTENT });
        const length = FIVE_MIB.length + 9;
        const copy = `${t.bucket}/${t.key('source')}`;
        const parts = [{ copy, range: `bytes=0-${length - 1}` }, REST];
        const expected = of(Buffer.concat([CONTENT.subarray(0, length), REST]));
        const kept = await uploadWhole(t, 'a', { algorithm, field, parts });
        t.note('right', kept === expected);
      },
    },
  ]),
  {
    name: 'checksum: a wrong size of a whole upload',
    run: async (t) => {
      const whole = { algorithm: 'CRC32', field: 'ChecksumCRC32', parts: [FIVE_MIB] } as const;
      await uploadWhole(t, 'a', { ...whole, size: 99 });
    },
  },
  {
    name: 'checksum: a wrong CRC32 of a part',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const ChecksumCRC32 = crc32Of(SIX_MIB);
      const part = { ...target, PartNumber: 1, Body: REST, ChecksumCRC32 };
      const plain = await t.s3.createMultipartUpload(target);
      await t.answer('algorithm not named', t.s3.uploadPart({ ...part, UploadId: plain.UploadId }));
      const named = await t.s3.createMultipartUpload({ ...target, ChecksumAlgorithm: 'CRC32' });
      await t.answer('algorithm named', t.s3.uploadPart({ ...part, UploadId: named.UploadId }));
    },
  },
  {
    name: 'checksum: SHA256 of an upload is composite',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const ChecksumAlgorithm = 'SHA256';
      const { UploadId } = await t.s3.createMultipartUpload({ ...target, ChecksumAlgorithm });
      const part = {
        ...target,
        UploadId,
        PartNumber: 1,
        Body: FIVE_MIB,
        ChecksumAlgorithm,
      } as const;
      const { ETag, ChecksumSHA256 } = await t.s3.uploadPart(part);
      const MultipartUpload = { Parts: [{ PartNumber: 1, ETag, ChecksumSHA256 }] };
      await t.answer(
        'complete',
        t.s3.completeMultipartUpload({ ...target, UploadId, MultipartUpload }),
      );
      const head = await t.s3.headObject({ ...target, ChecksumMode: 'ENABLED' });
      t.note('kept', `${head.ChecksumSHA256?.endsWith('-1')} ${head.ChecksumType}`);
    },
  },
];
