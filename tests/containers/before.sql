-- Data of an installation with the first schema.
INSERT INTO projects (id, name, created_at) VALUES ('prj_before', 'before', '2026-01-01');
INSERT INTO jobs (id, project_id, kind, queue, state, priority, devices, attempt, max_attempts, failures, preemptions,
                  not_before, dispatch_after, dispatches, progress, created_at, finished_at)
  VALUES ('job_before', 'prj_before', 'convert', 'data', 'failed', 0, 1, 1, 3, 1, 0,
          '2026-01-01', '2026-01-01', 1, 0, '2026-01-01', '2026-01-02');
INSERT INTO datasets (id, project_id, name, created_at) VALUES ('dst_before', 'prj_before', 'heartbeats', '2026-01-01');
INSERT INTO dataset_versions (id, dataset_id, job_id, version, source, declaration, created_at)
  VALUES ('dsv_before', 'dst_before', 'job_before', 1, '{"generator": "quadratic"}', '{}', '2026-01-01');
