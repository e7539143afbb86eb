/** What the chats that are told of jobs take. */
import { z } from 'zod';

const text = (max: number) => z.string().min(1).max(max);
/** Written from the receivers' own descriptions, limits included. */
export const SHAPES = {
  slack: z.strictObject({
    text: text(40_000),
    unfurl_links: z.literal(false),
    unfurl_media: z.literal(false),
    blocks: z
      .array(
        z.strictObject({
          type: z.literal('section'),
          text: z.strictObject({ type: z.literal('mrkdwn'), text: text(3000) }).optional(),
          fields: z
            .array(z.strictObject({ type: z.literal('mrkdwn'), text: text(2000) }))
            .min(1)
            .max(10)
            .optional(),
        }),
      )
      .min(1)
      .max(50),
  }),
  mattermost: z.strictObject({ text: text(16_383) }),
  discord: z.strictObject({
    content: z.string().max(2000),
    allowed_mentions: z.strictObject({ parse: z.array(z.never()) }),
    embeds: z
      .array(
        z.strictObject({
          title: text(256),
          description: text(4096),
          color: z.int().min(0).max(0xffffff),
          timestamp: z.iso.datetime(),
          url: z.url().optional(),
          fields: z
            .array(z.strictObject({ name: text(256), value: text(1024), inline: z.boolean() }))
            .max(25),
        }),
      )
      .length(1)
      .refine(
        ([one]) => stringsOf({ ...one, timestamp: '' }).join('').length <= 6000,
        '6000 characters in all',
      ),
  }),
  teams: z.strictObject({
    type: z.literal('message'),
    attachments: z
      .array(
        z.strictObject({
          contentType: z.literal('application/vnd.microsoft.card.adaptive'),
          contentUrl: z.null(),
          content: z.looseObject({
            $schema: z.literal('http://adaptivecards.io/schemas/adaptive-card.json'),
            type: z.literal('AdaptiveCard'),
            version: z.literal('1.4'),
            body: z.array(
              z.discriminatedUnion('type', [
                z.strictObject({
                  type: z.literal('RichTextBlock'),
                  inlines: z.array(z.looseObject({ type: z.literal('TextRun'), text: text(5000) })),
                }),
                z.strictObject({
                  type: z.literal('FactSet'),
                  facts: z.array(z.strictObject({ title: text(200), value: text(2000) })).min(1),
                }),
              ]),
            ),
          }),
        }),
      )
      .length(1),
  }),
};

/** Every text in it, however deep. */
export function stringsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(stringsOf);
}
