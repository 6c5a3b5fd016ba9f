# The image for workers of radrecords (target `worker`), and the same image for a Dataflow Flex Template (target
# `template`, the default). docs/engines.md has the commands to build, push and use it.

# The release of Beam must be that of requirements-worker.lock, and the version of Python that of the launcher.
ARG BEAM=2.77.0
ARG PYTHON=3.11

# Holds the program that starts the job of a Flex Template.
FROM gcr.io/dataflow-templates-base/python3-template-launcher-base:latest AS launcher

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS worker
WORKDIR /opt/radrecords
COPY requirements-worker.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r requirements-worker.lock
COPY setup.py pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY beam_jobs beam_jobs
COPY training training
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps . \
  && rm -rf build *.egg-info schemas beam_jobs training
# Fails if a decoder does not load, and shows what workers compare with the launcher.
RUN python -c "import simplejpeg, libjpeg, openjpeg, schemas.pixels.formats.dicom" \
  && python -c "from beam_jobs.remote.versions import installed; print(*map(' '.join, installed()), sep='\n')"
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM worker AS template
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
RUN echo 'import runpy; runpy.run_module("beam_jobs.convert", run_name="__main__", alter_sys=True)' >convert.py
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/radrecords/convert.py
